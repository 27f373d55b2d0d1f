"""A measured process: reads one line of JSON, does that work, answers with one line of JSON, until its input ends.

``{"workload": "json", "count": 200}`` is answered with microseconds per operation: ``cpu_us`` of the whole process,
exporter threads included, and ``wall_us``; and with what was exported. The spans are flushed inside the window. Metrics
are too, but are counted as one export per :data:`METRICS_EVERY` operations: a round is much shorter than the interval
at which they leave in real life.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.workload import asgi, telemetry
from benchmarks.workload.app import build, path

# One export each 15 s at 67 requests per second.
METRICS_EVERY = 1000

Work = Callable[[], Awaitable[None]]


def _prepare(app: asgi.App, workload: str, count: int) -> Work:
    if workload in ("publish", "begin", "end"):
        from benchmarks.workload import tasks

        return lambda: tasks.ORDERS[workload](os.environ["BENCH_QUEUE"], count)
    scopes = asgi.requests(path(workload), count)
    return lambda: asgi.call(app, scopes)


async def measure(work: Work, count: int) -> dict[str, float]:
    """Do ``count`` operations and deliver their telemetry."""
    telemetry.exported()
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    telemetry.flush_traces()
    worked = time.process_time()
    wall = time.perf_counter() - wall
    telemetry.flush_metrics()
    metrics = (time.process_time() - worked) / METRICS_EVERY
    exported = {name: value / count for name, value in telemetry.exported().items()}
    return {"cpu_us": ((worked - cpu) / count + metrics) * 1e6, "wall_us": wall / count * 1e6, **exported}


async def serve() -> None:
    """Answer until the input ends."""
    app = build()
    async with asgi.Lifespan(app):
        print(json.dumps({"ready": True}), flush=True)
        # Reading blocks the event loop on purpose: between the measured windows this process does nothing.
        for line in sys.stdin:
            order: dict[str, Any] = json.loads(line)
            work = _prepare(app, order["workload"], order["count"])
            print(json.dumps(await measure(work, order["count"])), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
