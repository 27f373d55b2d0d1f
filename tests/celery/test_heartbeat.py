"""Whether a worker is up: it is connected, and its loop turns or a solo worker runs a task."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from otel_cc.local import valkey
from otel_cc.local.process import Process, Processes, wait_until
from otel_cc.local.signals import Point
from tests.celery.conftest import Stage

UP, SEEN = "celery.worker.up", "celery.worker.heartbeat.timestamp"
FAST = {"OTEL_METRIC_EXPORT_INTERVAL": "300"}


def series(stage: Stage, name: str) -> list[Point]:
    return stage.sink.metrics().get(name, [])


@pytest.fixture(scope="module")
def busy(stages: Callable[..., Stage]) -> tuple[Stage, Process, float]:
    """A solo worker that runs a task for longer than a tick may be old; it works while the other tests run."""
    stage = stages("valkey", **FAST)
    worker = stage.worker("--pool", "solo")
    stage.driver()("many", stage.variables["QUEUE"], 1, "sleeps", 600.0, "busy")
    running = wait_until(
        lambda: [point for point in series(stage, "celery.worker.tasks.active") if point.value], 30, "it runs"
    )
    return stage, worker, running[0].time / 1e9


@pytest.mark.parametrize("arguments", [["prefork", "-c", "1"], ["threads", "--without-heartbeat"]])
def test_a_worker_is_down_while_its_broker_is_and_up_again_with_it(
    stages: Callable[..., Stage], busy: object, arguments: list[str], launch: object
) -> None:
    with Processes() as processes:
        broker = valkey.start(processes)
        stage = stages("valkey", **FAST)
        stage.variables |= {"BROKER": broker.url}
        worker = stage.worker("--pool", *arguments)
        stage.sink.wait_metric(UP, where=lambda point: point.value == 1)
        gone = time.time()
        broker.process.stop(signal.SIGKILL)
        wait_until(lambda: series(stage, UP)[-1].value == 0, 30, "the worker says that it is down")
        down = next(p for p in series(stage, UP) if p.time / 1e9 > gone and p.value == 0)
        # The last tick alone would tell it after ten seconds.
        assert down.time / 1e9 - gone < 8
        before = series(stage, SEEN)[-1].value
        processes.start("valkey-again", broker.process.argv, cwd=processes.folder / "valkey-data", env={"LC_ALL": "C"})
        # Celery tries again after 2, 4, 6 ... seconds.
        wait_until(lambda: series(stage, UP)[-1].value == 1, 30, "the worker says that it is up")
        assert series(stage, SEEN)[-1].value > max(before, gone)
        worker.stop(signal.SIGKILL)


def test_a_worker_without_a_broker_says_from_the_beginning_that_it_is_down(stages: Callable[..., Stage]) -> None:
    stage = stages("valkey", **FAST)
    stage.variables |= {"BROKER": "redis://127.0.0.1:1/0"}
    worker = stage.worker("--pool", "solo", wait=False)
    (up,) = stage.sink.wait_metric(UP)
    assert up.value == 0
    assert SEEN not in stage.sink.metrics()
    worker.stop(signal.SIGKILL)


def test_the_gauges_are_one_series_of_the_main_process(stages: Callable[..., Stage]) -> None:
    stage = stages("valkey", **FAST)
    worker = stage.worker("--pool", "prefork", "-c", "3")
    driver = stage.driver()
    for _ in range(5):
        driver("send", "sleeps", 600.0, "gauges")

    def all_taken() -> bool:
        found = [point.value for point in series(stage, "celery.worker.tasks.reserved")]
        return bool(found) and max(found) == 5

    wait_until(all_taken, 30, "the tasks are taken")
    (active,) = stage.sink.wait_metric("celery.worker.tasks.active", where=lambda point: point.value == 3)
    assert active.attributes == {"celery.worker.name": worker.argv[worker.argv.index("--hostname") + 1]}
    (size,) = stage.sink.latest("celery.worker.pool.size")
    assert size.value == 3
    worker.stop(signal.SIGKILL)


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_the_size_of_a_pool_is_how_many_tasks_it_can_run(stages: Callable[..., Stage], pool: str) -> None:
    stage = stages("valkey", **FAST)
    worker = stage.worker("--pool", pool, "-c", "4")
    (size,) = stage.sink.wait_metric("celery.worker.pool.size")
    assert size.value == 4
    worker.stop(signal.SIGKILL)


def test_a_solo_worker_that_runs_a_task_is_up(busy: tuple[Stage, Process, float]) -> None:
    stage, worker, began = busy
    wait_until(lambda: series(stage, UP)[-1].time / 1e9 > began + 11.5, 60, "it has run for longer than a tick lasts")
    during = [point for point in series(stage, UP) if began < point.time / 1e9 < began + 12]
    assert {point.value for point in during} == {1}
    assert 1 in [p.value for p in series(stage, "celery.worker.tasks.active") if p.time / 1e9 > began + 11]
    seen = [point for point in series(stage, SEEN) if point.time == during[-1].time]
    # The last tick of its loop is eleven seconds old.
    assert all(point.time / 1e9 - point.value < 5 for point in seen)
    worker.stop(signal.SIGKILL)
