"""What the exported metrics say of 2,000 tasks is what the tasks wrote down, with children and a whole worker killed.

The worker "deadly" is killed by SIGKILL. All that it had done a while before is exact; whether it had reported the few
tasks just before its end is chance, so for these, and for these only, there are bounds: :data:`LAST`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from otel_cc.local.signals import Point
from tests.truth.exported import Labels, difference
from tests.truth.mix import DEADLY, LAST, PUBLISHED, TASKS, TERMINATED
from tests.truth.stage import Run

TASK = ("celery.task.name", "messaging.destination.name")
OUTCOME = (*TASK, "celery.task.state", "error.type")
DESCRIBED = "celery.task.revoked.reason"
SENT = "messaging.client.sent.messages"
Bounds = dict[Labels, tuple[float, float]]


def events(run: Run, first: str) -> Counter[Labels]:
    return Counter({key[1:]: number for key, number in run.events.items() if key[0] == first})


def last(truth: Counter[Labels], *rest: str) -> Bounds:
    """Bounds of what the killed worker may have reported of the last tasks."""
    succeeds, waits = ("succeeds", "deadly", *rest), ("waits", "deadly", *rest)
    least = truth[succeeds] - LAST["succeeds"]
    return {succeeds: (least, truth[succeeds]), waits: (0, truth[waits])}


def test_as_many_tasks_were_published_as_the_mix_says(run: Run) -> None:
    planned = {**PUBLISHED, "deadly": sum(DEADLY.values()), "terminated": TERMINATED}
    assert sum(planned.values()) == TASKS
    follow_ups = 2 * PUBLISHED["retries"] + PUBLISHED["gives_up"] + PUBLISHED["nests"]
    assert sum(events(run, "published").values()) == TASKS + sum(LAST.values()) + follow_ups


def test_published_tasks_by_name_queue_and_error(run: Run) -> None:
    truth = events(run, "published")
    # Beat has published what was started: it was stopped before its queue was empty.
    truth["tick", "truth", ""] = events(run, "started")["tick", "truth"]
    labels = (*TASK, "error.type")
    for name in (SENT, "messaging.client.operation.duration"):
        assert difference(run.exported.totals(name, *labels), truth) == {}, name


def test_consumed_tasks_by_name_and_queue(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (name, queue, error), number in events(run, "published").items():
        if not error:
            truth["_OTHER" if name == "unknown" else name, queue] += number
    truth["tick", "truth"] = events(run, "started")["tick", "truth"]
    # Each is delivered again after it has killed its child.
    truth["poison", "deadly"] += DEADLY["poison"]
    exported = run.exported.totals("messaging.client.consumed.messages", *TASK)
    assert difference(exported, truth, last(truth)) == {}


def test_executions_by_task_queue_state_and_error(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for key, number in events(run, "ended").items():
        truth[(*key, "terminated" if key[2] == "REVOKED" else "")] += number
    # Those that never started, and so wrote nothing.
    truth["succeeds", "truth", "REVOKED", "", "expired"] += PUBLISHED["expires"]
    truth["succeeds", "truth", "REVOKED", "", "revoked"] += PUBLISHED["revoked"]
    truth["_OTHER", "truth", "UNKNOWN", "", ""] += PUBLISHED["unknown"]
    bounds = last(truth, "SUCCESS", "", "")
    assert difference(run.exported.totals("celery.task.executions", *OUTCOME, DESCRIBED), truth, bounds) == {}


def test_durations_of_what_has_started(run: Run) -> None:
    truth = events(run, "ended")
    exported = run.exported.totals("messaging.process.duration", *OUTCOME)
    assert difference(exported, truth, last(truth, "SUCCESS", "")) == {}


def test_waits_of_what_has_started(run: Run) -> None:
    truth = events(run, "started")
    assert difference(run.exported.totals("celery.task.queue.duration", *TASK), truth, last(truth)) == {}


def test_failed_tasks_are_errors(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (task, _, state, error), number in events(run, "ended").items():
        if state in ("FAILURE", "LOST"):
            truth[task, error] += number
    exported = run.exported.totals("commandcenter.errors", "celery.task.name", "error_type",
                                   where=lambda p: "celery.task.name" in p.attributes)  # fmt: skip
    assert difference(exported, truth) == {}


def test_no_task_is_active_when_nothing_happens(run: Run) -> None:
    for name, value in (("tasks.active", 0), ("tasks.reserved", 0), ("pool.size", 2), ("up", 1)):
        exported = {p.attributes["celery.worker.name"]: p.value for p in run.idle.points(f"celery.worker.{name}")}
        assert exported["ordinary@truth"] == value, name


def test_queues_are_empty_when_nothing_happens(run: Run) -> None:
    for name in ("celery.queue.messages", "celery.queue.oldest.age"):
        last: dict[Any, Point] = {}
        # Whoever reads the broker may have ended, and another one gone on.
        for point in sorted(run.idle.points(name), key=lambda point: point.time):
            last[point.attributes["messaging.destination.name"]] = point
        assert {queue: point.value for queue, point in last.items()} == {"truth": 0, "deadly": 0}, name


def test_a_worker_that_has_ended_is_down_and_one_that_was_killed_was_up(run: Run) -> None:
    up = {p.attributes["celery.worker.name"]: p.value for p in run.exported.points("celery.worker.up")}
    assert up == {"ordinary@truth": 0, "deadly@truth": 1}


def test_times_are_of_this_run(run: Run) -> None:
    names = [name for name in run.exported.last if name.endswith(".timestamp")]
    assert len(names) == 6
    for name in names:
        for point in run.exported.points(name):
            # Celery has a job of its own for the night. The next tick is due one second after the last one.
            if point.attributes.get("celery.beat.entry", "tick") == "tick":
                assert run.began < point.value < run.ended + 1, name
    assert set(run.exported.totals("celery.beat.entry.last_success.timestamp", "celery.beat.entry")) == {("tick",)}
