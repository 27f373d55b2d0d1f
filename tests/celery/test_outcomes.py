"""What the span of a task says about how it ended."""

from __future__ import annotations

import pytest

from tests.celery.conftest import Play

OUTCOMES = {
    "one": ("UNSET", {"celery.task.state": "SUCCESS"}, None),
    "fails": ("ERROR", {"celery.task.state": "FAILURE", "error.type": "ValueError"}, "ValueError"),
    "throws": ("UNSET", {"celery.task.state": "FAILURE", "error.type": "tasks.Known"}, None),
    "ignores": ("UNSET", {"celery.task.state": "IGNORED"}, None),
    "rejects": ("UNSET", {"celery.task.state": "REJECTED"}, None),
    "exits": ("ERROR", {"celery.task.state": "LOST", "error.type": "SystemExit"}, "SystemExit"),
    "limited": (
        "ERROR",
        {"celery.task.state": "FAILURE", "error.type": "billiard.exceptions.SoftTimeLimitExceeded"},
        "billiard.exceptions.SoftTimeLimitExceeded",
    ),
}


@pytest.mark.parametrize("task", OUTCOMES)
def test_a_span_says_how_its_task_ended(play: Play, task: str) -> None:
    answer = play.driver("outcome", task, request_id="order-42")
    spans = play.stage.trace(answer["trace_id"], 3)
    run = next(span for span in spans if span.name == f"run {task}")
    ending = {key: run.attributes[key] for key in ("celery.task.state", "error.type") if key in run.attributes}
    raised = [event.attributes["exception.type"] for event in run.events]
    status, attributes, exception = OUTCOMES[task]
    assert (run.status, ending, raised) == (status, attributes, [exception] if exception else [])
    assert len(spans) == 3


def test_the_exception_event_leads_to_the_line_of_the_task(play: Play) -> None:
    answer = play.driver("outcome", "fails", request_id="order-42")
    run = next(span for span in play.stage.trace(answer["trace_id"], 3) if span.name == "run fails")
    (event,) = run.events
    assert event.attributes["exception.message"] == "no"
    assert "raise ValueError(text)" in event.attributes["exception.stacktrace"]
    # What users typed may be in it: the text stays in the event.
    assert run.status_message == ""


def test_a_retry_is_no_error_and_names_its_reason(play: Play) -> None:
    answer = play.driver("retry", request_id="order-42")
    runs = [span for span in play.stage.trace(answer["trace_id"], 7) if span.kind == "CONSUMER"]
    runs.sort(key=lambda span: span.start)
    keys = ("celery.task.retries", "celery.task.state", "celery.task.retry.reason", "error.type")
    assert [(run.status, [run.attributes.get(key) for key in keys], run.events) for run in runs] == [
        ("UNSET", [None, "RETRY", "KeyError", None], ()),
        ("UNSET", [1, "RETRY", "KeyError", None], ()),
        ("UNSET", [2, "SUCCESS", None, None], ()),
    ]
    assert len({run.attributes["messaging.message.id"] for run in runs}) == 1
