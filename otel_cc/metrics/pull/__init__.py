"""Metrics for a scrape without a collector: one port shows the sum of all processes of a service.

Each process that serves answers its siblings over a unix socket and keeps its last values in a file beside it
(directory.py); one of them, whichever has the lock, owns the port (member.py), asks the others at each scrape, adds what
the dead have left (ledger.py, merge.py) and writes the page (page.py).
"""
