"""What runs inside the measured processes: the application, its tasks and the loops that drive them.

Nothing here imports otel-cc, because the same code runs in every variant. Results leave as one line of JSON.
"""
