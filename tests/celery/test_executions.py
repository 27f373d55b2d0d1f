"""Every execution is counted exactly once, whatever became of it, by one process of the worker."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis
from celery.concurrency import gevent as green

from otel_cc.local.process import Process, wait_until
from otel_cc.local.signals import Point
from tests.celery.conftest import Driver, Play, Stage

LOST = "billiard.exceptions.WorkerLostError"
Row = tuple[str, str, str]

# Task, state, and what else the labels say: the reason of a revocation or the class of the error.
EVERY_POOL: dict[Row, int] = {
    ("one", "SUCCESS", ""): 3,
    ("fails", "FAILURE", "ValueError"): 2,
    ("throws", "FAILURE", "tasks.Known"): 1,
    ("again", "RETRY", "KeyError"): 2,
    ("again", "SUCCESS", ""): 1,
    ("ignores", "IGNORED", ""): 1,
    ("rejects", "REJECTED", ""): 1,
    ("requeues", "REJECTED", ""): 1,
    ("requeues", "SUCCESS", ""): 1,
    ("one", "REVOKED", "expired"): 1,
    ("two", "REVOKED", "revoked"): 1,
    ("_OTHER", "UNKNOWN", ""): 3,
    ("one", "REJECTED", "kombu.exceptions.DecodeError"): 1,
    ("two", "REJECTED", "kombu.exceptions.ContentDisallowed"): 1,
}
EXITS: dict[Row, int] = {("exits", "LOST", "SystemExit"): 1}
TERMINATED: dict[Row, int] = {("sleeps", "REVOKED", "terminated"): 1}
CHILDREN: dict[Row, int] = {
    ("unsendable", "FAILURE", "tasks.Unsendable"): 1,
    ("limited", "FAILURE", "billiard.exceptions.SoftTimeLimitExceeded"): 1,
    ("hard", "FAILURE", "billiard.exceptions.TimeLimitExceeded"): 1,
    ("killed", "LOST", LOST): 1,
    ("poison", "LOST", LOST): 2,
    ("poison", "SUCCESS", ""): 1,
}
CONTRIB = {"OTEL_CC_INSTRUMENTATION": "contrib", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis"}
# The pool, its outcomes, and the environment.
WORKERS: dict[str, tuple[list[str], dict[Row, int], dict[str, str]]] = {
    "prefork": (
        ["prefork", "-c", "2"],
        EVERY_POOL | EXITS | TERMINATED | CHILDREN,
        {"OTEL_CC_LOG_FORMAT": "text"},
    ),
    "threads": (["threads", "-c", "2"], EVERY_POOL | EXITS, {}),
    "solo": (["solo"], EVERY_POOL, {}),
    # Celery 5.3 cannot terminate a greenlet.
    "gevent": (["gevent", "-c", "4"], EVERY_POOL | (TERMINATED if hasattr(green, "_terminate") else {}), {}),
    "eventlet": (["eventlet", "-c", "4"], EVERY_POOL | TERMINATED, {}),
    "rabbitmq": (["prefork", "-c", "2"], EVERY_POOL | EXITS, {}),
    "contrib": (["prefork", "-c", "2", "--max-tasks-per-child", "1"], EVERY_POOL | EXITS | TERMINATED, CONTRIB),
}


def rows(points: list[Point], number: Callable[[Point], float]) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for point in points:
        labels = point.attributes
        detail = labels.get("celery.task.revoked.reason") or labels.get("error.type") or ""
        found[labels["celery.task.name"], labels["celery.task.state"], detail] += int(number(point))
    return found


def by_task(points: list[Point], number: Callable[[Point], float]) -> Counter[str]:
    found: Counter[str] = Counter()
    for point in points:
        found[point.attributes["celery.task.name"]] += int(number(point))
    return found


def value(point: Point) -> float:
    return point.value


def settles(condition: Callable[[], bool]) -> None:
    """Give what must come true its time; what is missing then is better seen in the comparison."""
    with suppress(TimeoutError):
        wait_until(condition, 30)


def node(worker: Process) -> str:
    """What Celery calls it."""
    return worker.argv[worker.argv.index("--hostname") + 1]


def publish(driver: Driver, client: redis.Redis, worker: str, wanted: dict[Row, int]) -> None:
    """Send everything that leads to these outcomes; tasks that kill come last."""
    tasks = {name for name, _, _ in wanted}
    # First, as the worker must know of it before it is due, however busy the machine is.
    driver("revoke", driver("send_later", "two", 10.0)["result"], worker, False)
    driver("send", "one", request_id="order-one")
    for _ in range(2):
        driver("send", "one")
        driver("send", "fails")
    for name in ("throws", "ignores", "rejects", "requeues", "unsendable", "limited", "hard", "exits"):
        if name in tasks:
            driver("send", name, request_id=f"order-{name}")
    driver("retry")
    driver("send_expired", "one")
    for name in ("nobody.knows", "nobody.knows.either", "\N{SNOWMAN}"):
        driver("send", name)
    driver("send_raw", "{broken", "application/json", {"task": "one", "id": "1"})
    driver("send_raw", "broken", "application/x-python-serialize", {"task": "two", "id": "2"})
    if "sleeps" in tasks:
        counter = f"{driver.process.name}-{id(driver)}-sleeps"
        task_id = driver("send", "sleeps", 60, counter)["result"]
        wait_until(lambda: client.get(counter) == b"1", 30, "the task that is going to be terminated runs")
        driver("revoke", task_id, worker, True)


class Played:
    """A worker that has seen every outcome, and has ended."""

    def __init__(self, stage: Stage, worker: Process, driver: Driver, wanted: dict[Row, int]) -> None:
        self.stage, self.worker, self.driver, self.wanted = stage, worker, driver, wanted
        self.system = "rabbitmq" if stage.variables["BROKER"].startswith("amqp") else "redis"

    def wait(self, outcomes: dict[Row, int]) -> None:
        def complete() -> bool:
            return sum(rows(self.points("celery.task.executions"), value).values()) >= sum(outcomes.values())

        try:
            wait_until(complete, 60, "the outcomes arrive")
        except TimeoutError:
            # What is missing is better seen in the comparison.
            assert rows(self.points("celery.task.executions"), value) == outcomes

    def points(self, name: str) -> list[Point]:
        return self.stage.sink.latest(name)


@pytest.fixture(scope="module")
def played(stages: Callable[..., Stage]) -> dict[str, Played]:
    """All the workers at once, each on a queue of its own."""
    began: dict[str, Played] = {}
    for name, (arguments, wanted, env) in WORKERS.items():
        stage = stages("rabbitmq" if name == "rabbitmq" else "valkey", **env)
        worker = stage.worker("--pool", *arguments, wait=False)
        began[name] = Played(stage, worker, stage.driver(), wanted)
    for name, play in began.items():
        play.worker.wait_ready(120)
        with redis.Redis.from_url(play.stage.variables["BACKEND"]) as client:
            publish(play.driver, client, node(play.worker), play.wanted)
        if name == "prefork":
            # A killed child takes what it has published and not exported with it.
            play.wait({row: count for row, count in play.wanted.items() if row[0] not in ("killed", "poison")})
            wait_until(
                lambda: by_task(began["prefork"].points("messaging.client.sent.messages"), value)["again"] == 3,
                30,
                "the retries of the children are exported",
            )
            for task in ("killed", "poison"):
                play.driver("send", task, request_id=f"order-{task}")
    for play in began.values():
        play.wait(play.wanted)
        play.worker.send(signal.SIGTERM)
    for play in began.values():
        play.worker.wait(60)
    return began


@pytest.fixture(params=WORKERS)
def worker(request: pytest.FixtureRequest, played: dict[str, Played]) -> Played:
    return played[request.param]


def test_every_outcome_is_counted_once(worker: Played) -> None:
    assert rows(worker.points("celery.task.executions"), value) == worker.wanted


def test_one_process_of_a_worker_counts(worker: Played) -> None:
    for name in ("celery.task.executions", "messaging.process.duration", "celery.worker.up"):
        assert len({point.resource["service.instance.id"] for point in worker.points(name)}) == 1


def test_whatever_started_has_a_duration_and_waited(worker: Played) -> None:
    unstarted = {"expired", "revoked", "kombu.exceptions.DecodeError", "kombu.exceptions.ContentDisallowed"}
    started = {row: n for row, n in worker.wanted.items() if row[2] not in unstarted and row[1] != "UNKNOWN"}

    def without_reason(points: dict[Row, int]) -> dict[Row, int]:
        return {(name, state, "" if state == "REVOKED" else detail): n for (name, state, detail), n in points.items()}

    durations = worker.points("messaging.process.duration")
    assert without_reason(rows(durations, lambda point: point.count)) == without_reason(started)
    waits = by_task(worker.points("celery.task.queue.duration"), lambda point: point.count)
    tasks: Counter[str] = Counter()
    for (name, _, _), n in started.items():
        tasks[name] += n
    assert waits == tasks


def test_what_is_received_is_what_ends(worker: Played) -> None:
    ended: Counter[str] = Counter()
    for (name, _, _), n in worker.wanted.items():
        ended[name] += n
    assert by_task(worker.points("messaging.client.consumed.messages"), value) == ended


def test_failed_and_lost_tasks_are_errors_unless_they_were_expected(worker: Played) -> None:
    errors = Counter(
        {
            (name, detail): n
            for (name, state, detail), n in worker.wanted.items()
            if state in ("FAILURE", "LOST") and name != "throws"
        }
    )
    points = worker.points("commandcenter.errors")
    found = {(p.attributes["celery.task.name"], p.attributes["error_type"]): int(p.value) for p in points}
    assert found == errors


def test_what_was_sent_is_counted_by_who_sent_it(played: dict[str, Played]) -> None:
    sent: Counter[str] = Counter()
    for (name, state, detail), n in played["prefork"].wanted.items():
        # The broker delivers again what is rejected or lost; two messages were not made by Celery.
        again = (name, state) in (("requeues", "REJECTED"), ("poison", "LOST"))
        raw = detail.startswith("kombu.")
        sent[name] += 0 if again or raw else n
    # The sender knows names that the worker does not.
    sent |= Counter(("nobody.knows", "nobody.knows.either", "\N{SNOWMAN}"))
    del sent["_OTHER"]

    def said() -> tuple[Counter[str], Counter[str]]:
        messages = played["prefork"].points("messaging.client.sent.messages")
        durations = played["prefork"].points("messaging.client.operation.duration")
        return by_task(messages, value), by_task(durations, lambda point: point.count)

    # The driver is alive, and may have to export the last ones.
    settles(lambda: said() == (sent, sent))
    assert said() == (sent, sent)


def test_contribs_producer_counts_what_it_sends_too(played: dict[str, Played]) -> None:
    # Its children are recycled after each task: they deliver what they sent at their end.
    def said() -> tuple[int, ...]:
        found = by_task(played["contrib"].points("messaging.client.sent.messages"), value)
        return found["one"], found["again"], found["nobody.knows"]

    settles(lambda: said() == (4, 3, 1))
    assert said() == (4, 3, 1)


def test_the_labels_of_all_outcomes_are_the_same(worker: Played) -> None:
    names = {"messaging.system", "celery.task.name", "messaging.destination.name", "celery.task.state"}
    for point in worker.points("celery.task.executions"):
        further = set(point.attributes) - names
        assert names <= set(point.attributes)
        assert further <= {"error.type", "celery.task.revoked.reason"}
        assert point.attributes["messaging.system"] == worker.system
        assert point.attributes["messaging.destination.name"] == worker.stage.variables["QUEUE"]


def test_each_killed_child_leaves_one_span_that_stands_in_for_its_own(played: dict[str, Played]) -> None:
    spans = played["prefork"].stage.sink.spans(lambda span: span.name in ("run killed", "run poison"))
    found = Counter((s.name, s.status, s.attributes.get("celery.task.synthetic", False)) for s in spans)
    assert found == {
        ("run killed", "ERROR", True): 1,
        ("run poison", "ERROR", True): 2,
        ("run poison", "UNSET", False): 1,
    }
    for span in spans:
        if not span.attributes.get("celery.task.synthetic"):
            continue
        (parent,) = played["prefork"].stage.sink.spans(lambda other, of=span: other.span_id == of.parent_id)
        assert (parent.name, parent.trace_id) == (span.name.replace("run", "publish"), span.trace_id)
        assert parent.start < span.start < span.end
        assert (span.attributes["celery.task.state"], span.attributes["error.type"]) == ("LOST", LOST)
        assert "SIGKILL" in span.events[0].attributes["exception.message"]


def test_a_task_that_is_terminated_by_sigkill_has_a_span_that_stands_in_for_its_own(play: Play) -> None:
    counter = "terminated-by-sigkill"
    sent = play.driver("send", "sleeps", 60, counter, request_id=counter)
    with redis.Redis.from_url(play.stage.variables["BACKEND"]) as client:
        wait_until(lambda: client.get(counter) == b"1", 30, "the task that is going to be terminated runs")
    play.driver("revoke", sent["result"], node(play.worker), True, "SIGKILL")
    (span,) = play.stage.sink.wait_spans(
        1, where=lambda span: span.trace_id == sent["trace_id"] and span.name == "run sleeps"
    )
    assert (span.status, span.attributes["celery.task.synthetic"]) == ("ERROR", True)
    found = (span.attributes["celery.task.state"], span.attributes["error.type"])
    assert found == ("REVOKED", "billiard.exceptions.Terminated")


def test_no_other_pool_and_no_other_outcome_has_a_stand_in(played: dict[str, Played]) -> None:
    for name, play in played.items():
        found = play.stage.sink.spans(lambda span: "celery.task.synthetic" in span.attributes)
        assert len(found) == (3 if name == "prefork" else 0)


def test_the_last_thing_a_worker_says_is_that_it_is_no_longer_up(worker: Played) -> None:
    (up,) = worker.points("celery.worker.up")
    (seen,) = worker.points("celery.worker.heartbeat.timestamp")
    assert up.value == 0
    assert up.attributes == seen.attributes == {"celery.worker.name": up.attributes["celery.worker.name"]}
    assert seen.value <= up.time / 1e9


def test_nothing_is_left_running(worker: Played) -> None:
    (active,) = worker.points("celery.worker.tasks.active")
    (reserved,) = worker.points("celery.worker.tasks.reserved")
    # Celery itself does not notice the end of a thread's task that leaves by SystemExit.
    left = {0, 1} if "threads" in worker.worker.argv else {0}
    assert {active.value, reserved.value} <= left


def test_nothing_of_ours_is_in_a_traceback(worker: Played) -> None:
    assert "otel-cc failed" not in worker.worker.output()


def test_exemplars_lead_to_the_trace_of_the_task(play: Play) -> None:
    answer = play.driver("outcome", "fails", request_id="order-42")

    def leading() -> set[str]:
        # Of all exports: each has the exemplars of its own interval only.
        return {
            name
            for name, points in play.stage.sink.metrics().items()
            if any(exemplar.trace_id == answer["trace_id"] for point in points for exemplar in point.exemplars)
        }

    names = {"messaging.process.duration", "celery.task.queue.duration", "messaging.client.operation.duration"}
    wait_until(lambda: leading() >= names, 30, "the exemplars arrive")


def test_a_task_that_rabbitmq_delays_has_its_queue_as_destination(stages: Callable[..., Stage]) -> None:
    stage = stages("rabbitmq", QUORUM="true")
    worker = stage.worker("--pool", "solo")
    stage.driver()("send_later", "one", 1.0)
    stage.sink.wait_metric("celery.task.executions", 20)
    (sent,) = stage.sink.wait_metric("messaging.client.sent.messages")
    (executed,) = stage.sink.latest("celery.task.executions")
    spans = stage.sink.wait_spans(2, where=lambda span: span.kind in ("PRODUCER", "CONSUMER"))
    found = {one.attributes["messaging.destination.name"] for one in (sent, executed, *spans)}
    assert found == {stage.variables["QUEUE"]}
    worker.stop(signal.SIGKILL)


def test_what_the_main_process_logs_for_a_task_has_the_id_of_its_request(played: dict[str, Played]) -> None:
    lines = played["prefork"].worker.output().splitlines()

    def said(text: str) -> list[str]:
        return [line for line in lines if text in line]

    assert len([line for line in said("Task one[") if "[order-one]" in line and line.endswith("received")]) == 1
    for text, task in (("Hard time limit", "hard"), ("Task handler raised error: WorkerLostError", "killed")):
        assert any(f"[order-{task}]" in line for line in said(text)), said(text)
