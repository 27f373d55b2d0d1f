"""What the exported metrics say of 2,000 tasks is what the tasks themselves wrote down, with children and a worker killed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.truth.exported import difference
from tests.truth.mix import LAST, PUBLISHED
from tests.truth.stage import Run

EXECUTIONS = "celery.task.executions"


def executed(run: Run) -> dict[tuple[Any, ...], float]:
    labels = ("celery.task.name", "messaging.destination.name", "celery.task.state", "error.type")
    return run.exported.totals(EXECUTIONS, *labels)


def written(run: Run) -> Counter[tuple[Any, ...]]:
    truth: Counter[tuple[Any, ...]] = Counter()
    for key, number in run.events.items():
        if key[0] == "ended":
            truth[key[1:]] += number
    return truth


def test_executions_by_task_queue_state_and_error(own: Run) -> None:
    truth = written(own)
    # Those that never started, and so wrote nothing.
    truth["succeeds", "truth", "REVOKED", ""] += PUBLISHED["expires"] + PUBLISHED["revoked"]
    truth["_OTHER", "truth", "UNKNOWN", ""] += PUBLISHED["unknown"]
    # The worker was killed after these: whether it had reported them is chance, and the waiting ones have no end.
    last = truth["succeeds", "deadly", "SUCCESS", ""]
    bounds = {("succeeds", "deadly", "SUCCESS", ""): (last - LAST["succeeds"], last)}
    assert difference(executed(own), truth, bounds) == {}


def test_published_tasks_by_name_queue_and_error(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    for key, number in own.events.items():
        if key[0] == "published":
            truth[key[1:]] += number
    labels = ("celery.task.name", "messaging.destination.name", "error.type")
    exported = own.exported.totals("messaging.client.sent.messages", *labels)
    assert difference({k: v for k, v in exported.items() if k[0] != "tick"}, truth) == {}


def test_failed_tasks_are_errors(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    for (task, _, state, error), number in written(own).items():
        if state in ("FAILURE", "LOST"):
            truth[task, error] += number
    exported = own.exported.totals("commandcenter.errors", "celery.task.name", "error_type",
                                   where=lambda p: "celery.task.name" in p.attributes)  # fmt: skip
    assert difference(exported, truth) == {}


def test_no_task_is_active_when_nothing_happens(own: Run) -> None:
    workers = {point.attributes["celery.worker.name"]: point.value
               for point in own.idle.points("celery.worker.tasks.active")}  # fmt: skip
    assert workers["ordinary@truth"] == 0
