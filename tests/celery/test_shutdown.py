"""A worker delivers all that it has, however it ends: the intervals are so long that only a flush can."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from otel_cc.local.process import Process, wait_until
from otel_cc.local.valkey import Valkey
from tests.celery.conftest import Driver, Stage

SLOW_EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}


def ran(stage: Stage, counter: str) -> int:
    database = stage.variables["BACKEND"].rpartition("/")[2]
    port = int(stage.variables["BACKEND"].rpartition(":")[2].partition("/")[0])
    import redis

    with redis.Redis(port=port, db=int(database)) as client:
        return int(client.get(counter) or 0)


def deliver(
    stage: Stage, driver: Driver, worker: Process, signum: int, count: int = 20, task: str = "counts", *args: object
) -> None:
    """Run tasks, end the worker, and compare what arrived with what ran."""
    counter = f"{stage.variables['QUEUE']}-{task}"
    driver("many", count, task, *args, counter)
    wait_until(lambda: ran(stage, counter) == count, 20, f"{count} tasks have run")
    worker.stop(signum, timeout=20)
    runs = stage.sink.wait_spans(count, 3, lambda span: span.name == f"run {task}")
    assert len(runs) == count
    measured: dict[tuple[object, object], int] = {}
    for point in stage.sink.metrics()["messaging.process.duration"]:
        if point.attributes["celery.task.name"] == task:
            measured[point.resource["service.instance.id"], point.attributes["celery.task.state"]] = point.count
    assert sum(measured.values()) == count


@pytest.fixture(scope="module")
def stage(stages: Callable[..., Stage]) -> Stage:
    return stages("valkey", **SLOW_EXPORT)


@pytest.fixture(scope="module")
def driver(stage: Stage) -> Driver:
    """It is not instrumented: all that arrives is the worker's."""
    return stage.driver(instrument=False)


@pytest.fixture
def clear(stage: Stage, valkey: Valkey) -> Stage:
    stage.sink.clear()
    assert valkey.command("SELECT", "1")
    import redis

    with redis.Redis.from_url(stage.variables["BACKEND"]) as client:
        client.flushdb()
    return stage


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_a_prefork_worker_delivers_everything(clear: Stage, driver: Driver, signum: int) -> None:
    worker = clear.worker("--pool", "prefork", "--concurrency", "2")
    deliver(clear, driver, worker, signum)


def test_recycled_children_deliver_everything(clear: Stage, driver: Driver) -> None:
    worker = clear.worker("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1")
    deliver(clear, driver, worker, signal.SIGTERM, count=10)


def test_a_cold_shutdown_ends_the_span_of_the_interrupted_task(clear: Stage, driver: Driver) -> None:
    worker = clear.worker("--pool", "prefork", "--concurrency", "1")
    driver("many", 1, "sleeps", 30, "slept")
    wait_until(lambda: ran(clear, "slept") == 1, 10, "the task has begun")
    worker.stop(signal.SIGQUIT, timeout=20)
    (run,) = clear.sink.wait_spans(1, 3, lambda span: span.name == "run sleeps")
    assert (run.status, run.attributes["celery.task.state"], run.attributes["error.type"]) == (
        "ERROR",
        "LOST",
        "SystemExit",
    )


def test_a_warm_shutdown_waits_for_the_running_task(clear: Stage, driver: Driver) -> None:
    worker = clear.worker("--pool", "prefork", "--concurrency", "1")
    deliver(clear, driver, worker, signal.SIGTERM, 1, "sleeps", 1)


@pytest.mark.parametrize("backend", ["refuse", "black_hole"])
def test_an_unreachable_backend_delays_the_end_only_as_long_as_the_settings_say(
    clear: Stage, driver: Driver, backend: str
) -> None:
    worker = clear.worker(
        *("--pool", "prefork", "--concurrency", "1"), OTEL_CC_FLUSH_TIMEOUT="1", OTEL_CC_SHUTDOWN_TIMEOUT="1"
    )
    driver("many", 5, "counts", backend)
    wait_until(lambda: ran(clear, backend) == 5, 10, "the tasks have run")
    getattr(clear.sink, backend)()
    try:
        begin = time.monotonic()
        assert worker.stop(signal.SIGTERM, timeout=20) == 0
        # Celery itself takes more than two seconds: each child sleeps for one at its end.
        assert time.monotonic() - begin < 2 + 1 + 1 + 2
    finally:
        clear.sink.accept()
