"""The process that serves: its CPU time and memory, its event loop, its threads, its garbage collections."""
