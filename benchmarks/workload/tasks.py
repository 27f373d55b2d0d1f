"""The measured tasks: one that does nothing, and two that mark the window in which many of it run."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis
from celery import Celery

from benchmarks.workload import telemetry

BROKER = os.environ["BENCH_BROKER"]

app = Celery("bench", broker=BROKER)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)

_window: dict[str, float] = {}


@app.task(name="bench.noop")  # type: ignore[untyped-decorator]  # Celery has no types
def noop(number: int) -> int:
    """The measured task."""
    return number


@app.task(name="bench.begin")  # type: ignore[untyped-decorator]  # Celery has no types
def begin(key: str) -> None:
    """Wait until the queue behind this task is full, then open the window."""
    client = redis.Redis.from_url(BROKER)
    client.rpush(f"{key}:waiting", "1")
    client.blpop([f"{key}:go"], timeout=60)
    # What the end of the last window left behind.
    telemetry.flush_traces()
    telemetry.exported()
    _window.update(wall=time.perf_counter(), cpu=time.process_time())


@app.task(name="bench.end")  # type: ignore[untyped-decorator]  # Celery has no types
def end(key: str, count: int) -> None:
    """Deliver the telemetry, close the window and report it."""
    telemetry.flush_traces()
    wall, cpu = (time.perf_counter() - _window["wall"], time.process_time() - _window["cpu"])
    exported = {name: value / count for name, value in telemetry.exported().items()}
    result: dict[str, Any] = {"cpu_us": cpu / count * 1e6, "wall_us": wall / count * 1e6, **exported}
    redis.Redis.from_url(BROKER).rpush(f"{key}:result", json.dumps(result))


async def _publish(queue: str, count: int) -> None:
    for number in range(count):
        noop.apply_async((number,), queue=queue)


async def _begin(queue: str, _: int) -> None:
    begin.apply_async((queue,), queue=queue)


async def _end(queue: str, count: int) -> None:
    end.apply_async((queue, count), queue=queue)


# What a publisher can be told to do; coroutines only because the other workloads are.
ORDERS = {"publish": _publish, "begin": _begin, "end": _end}
