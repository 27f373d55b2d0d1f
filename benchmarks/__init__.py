"""The benchmark: what the telemetry of one request, statement or task costs, side by side with the alternatives.

``python -m benchmarks`` (or ``make bench``) measures every variant in fresh processes that take turns, and prints the
ratios. README.md explains the method. ``workload`` runs inside the measured processes, ``suites`` outside of them.
"""
