"""Real programs on this machine, without docker and without root: what the demo, the tests and the local stack run on.

Everything listens on loopback only, on free ports, and is gone when the ``with`` block ends.
"""
