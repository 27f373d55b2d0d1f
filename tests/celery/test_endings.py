"""A worker delivers all that it has, however it ends: the intervals are so long that only a flush can."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from otel_cc.local.process import Process, free_port, wait_until
from otel_cc.local.signals import Point, Span
from otel_cc.local.sink import Sink
from tests.celery.conftest import Stage

SLOW = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}


@dataclass(frozen=True)
class Ending:
    """How a worker runs and ends.

    :param sleeps: seconds of a task that is running when the signal comes; None for no such task
    """

    pool: str
    signum: int
    arguments: tuple[str, ...] = ("--concurrency", "2")
    count: int = 20
    sleeps: float | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the spans."""
        return ("run/counts", "run/sleeps") if self.env else ("run counts", "run sleeps")


CONTRIB = {"OTEL_CC_INSTRUMENTATION": "contrib", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis"}
ENDINGS = {
    "prefork, warm, with a running task": Ending("prefork", signal.SIGTERM, sleeps=1),
    "prefork, cold, with a running task": Ending("prefork", signal.SIGQUIT, sleeps=600),
    "prefork, Ctrl-C": Ending("prefork", signal.SIGINT),
    "prefork, recycled children": Ending(
        "prefork", signal.SIGTERM, ("-c", "2", "--max-tasks-per-child", "1"), count=10
    ),
    "prefork, contrib's spans": Ending("prefork", signal.SIGTERM, env=CONTRIB),
    "threads, warm, with a running task": Ending("threads", signal.SIGTERM, sleeps=1),
    "solo, cold": Ending("solo", signal.SIGQUIT, ()),
    "gevent, warm": Ending("gevent", signal.SIGTERM),
    "eventlet, cold": Ending("eventlet", signal.SIGQUIT),
}


@dataclass(frozen=True)
class Ended:
    """What is left of a worker."""

    spans: list[Span]
    points: list[Point]
    executions: list[Point]
    answer: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def ended(stages: Callable[..., Stage]) -> dict[str, Ended]:
    """All the workers at once, each on a queue of its own: they wait most of the time."""
    played: dict[str, tuple[Stage, Process]] = {}
    for name, ending in ENDINGS.items():
        stage = stages("valkey", **SLOW, **ending.env)
        played[name] = stage, stage.worker("--pool", ending.pool, *ending.arguments, wait=False)
    first = stages("valkey")
    driver, answers = first.driver(), {}
    for name, (stage, worker) in played.items():
        worker.wait_ready(120)
        queue = stage.variables["QUEUE"]
        driver("many", queue, ENDINGS[name].count, "counts", queue)
        answers[name] = driver("retry_in", queue, request_id=f"order-{queue}")
    with redis.Redis.from_url(first.variables["BACKEND"]) as client:

        def ran(counter: str) -> int:
            return int(client.get(counter) or 0)

        for name, (stage, _) in played.items():
            queue, ending = stage.variables["QUEUE"], ENDINGS[name]
            wait_until(lambda: ran(queue) == ending.count, 30, f"the tasks of {name} have run")  # noqa: B023
            if ending.sleeps is not None:
                driver("many", queue, 1, "sleeps", ending.sleeps, f"{queue}-sleeps")
                wait_until(lambda: ran(f"{queue}-sleeps") == 1, 30, f"the last task of {name} runs")  # noqa: B023
    for name, (_, worker) in played.items():
        worker.send(ENDINGS[name].signum)
    results = {}
    for name, (stage, worker) in played.items():
        worker.wait(60)
        points = stage.sink.metrics().get("messaging.process.duration", [])
        executions = stage.sink.metrics().get("celery.task.executions", [])
        results[name] = Ended(stage.sink.spans(), points, executions, answers[name], worker.output())
    return results


@pytest.mark.parametrize("name", ENDINGS)
def test_every_span_of_a_task_arrives(ended: dict[str, Ended], name: str) -> None:
    ending, result = ENDINGS[name], ended[name]
    counts, sleeps = ending.names
    assert [span.name for span in result.spans].count(counts) == ending.count
    assert [span.name for span in result.spans].count(sleeps) == (ending.sleeps is not None)
    assert "/otel_cc/" not in result.log, "nothing of ours is in a traceback"


@pytest.mark.parametrize("name", ENDINGS)
def test_every_execution_is_counted_in_one_series_of_a_worker(ended: dict[str, Ended], name: str) -> None:
    def latest(points: list[Point], number: str) -> list[float]:
        found = {
            (point.resource["service.instance.id"], point.start): getattr(point, number)
            for point in points
            if point.attributes["celery.task.name"] == "counts"
        }
        return list(found.values())

    result = ended[name]
    assert latest(result.executions, "value") == [ENDINGS[name].count]
    assert latest(result.points, "count") == [ENDINGS[name].count]


def test_a_cold_shutdown_counts_the_interrupted_task_as_lost(ended: dict[str, Ended]) -> None:
    points = ended["prefork, cold, with a running task"].executions
    found = {
        (p.attributes["celery.task.state"], p.value) for p in points if p.attributes["celery.task.name"] == "sleeps"
    }
    assert found == {("LOST", 1)}


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if not ending.env])
def test_a_pool_keeps_the_id_of_the_request(ended: dict[str, Ended], name: str) -> None:
    result = ended[name]
    trace_id, request_id = result.answer["trace_id"], result.answer["result"]["request_id"]
    assert request_id.startswith("order-queue")
    assert result.answer["result"]["trace_id"] == trace_id
    # The request and its publish are the driver's, whose telemetry goes elsewhere.
    spans = sorted((span for span in result.spans if span.trace_id == trace_id), key=lambda span: span.start)
    assert [(span.name, span.attributes["request.id"]) for span in spans] == [
        ("run again", request_id),
        ("publish again", request_id),
        ("run again", request_id),
        ("publish again", request_id),
        ("run again", request_id),
    ]


def test_a_cold_shutdown_ends_the_span_of_the_interrupted_task(ended: dict[str, Ended]) -> None:
    (run,) = (span for span in ended["prefork, cold, with a running task"].spans if span.name == "run sleeps")
    assert (run.status, run.attributes["celery.task.state"], run.attributes["error.type"]) == (
        "ERROR",
        "LOST",
        "SystemExit",
    )


def test_the_start_is_told_once_for_a_worker_and_not_by_its_children(ended: dict[str, Ended]) -> None:
    for name, result in ended.items():
        assert result.log.count(" in celery worker process ") == 1, name


def test_an_unreachable_backend_delays_the_end_only_as_long_as_the_settings_say(stages: Callable[..., Stage]) -> None:
    stage = stages("valkey", OTEL_CC_FLUSH_TIMEOUT="1", OTEL_CC_SHUTDOWN_TIMEOUT="1", **SLOW)
    driver = stage.driver(instrument=False)
    with Sink() as hole:
        hole.black_hole()
        unreachable = {"refused": f"http://127.0.0.1:{free_port()}", "black hole": hole.endpoint}
        endpoints = {"reachable": stage.sink.endpoint, **unreachable}
        workers = {
            name: stage.worker(
                *("--pool", "prefork", "--concurrency", "1", "-Q", name),
                wait=False,
                OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            )
            for name, endpoint in endpoints.items()
        }
        with redis.Redis.from_url(stage.variables["BACKEND"]) as client:
            for name, worker in workers.items():
                worker.wait_ready(120)
                driver("many", name, 5, "counts", name)
                wait_until(lambda: client.get(name) == b"5", 30, f"the tasks of {name} have run")  # noqa: B023
        for worker in workers.values():
            worker.send(signal.SIGTERM)
        ended: dict[str, float] = {}

        def all_ended() -> bool:
            ended.update(
                {name: time.monotonic() for name, w in workers.items() if name not in ended and w.exit_code == 0}
            )
            return len(ended) == len(workers)

        wait_until(all_ended, 60, "the end of the workers")
        for name in unreachable:
            # By default it would be 3 + 5.
            assert ended[name] - ended["reachable"] < 1 + 1 + 4, name
