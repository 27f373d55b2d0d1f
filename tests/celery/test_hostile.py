"""Messages come from anybody who can reach the broker."""

from __future__ import annotations

from typing import Any

import pytest

from otel_cc import request_id
from tests.celery.conftest import Driver, Play

HOSTILE: dict[str, Any] = {
    "a list": ["order-42", "order-43"],
    "a dictionary": {"a": 1},
    "a number": 42,
    "true": True,
    "an empty text": "",
    "a lone surrogate": "order-\ud800",
    "10 kB": "x" * 10_000,
    "NUL": "order\0-42",
    "a line break": "order-42\r\nX-Evil: 1",
    "an SQL comment": "*/ DROP TABLE orders; --",
    "a quote": "order'42",
    "not ASCII": "bestellung-ä",
    "a nested list": [[["x"]]],
}
KEYS = ("otel_cc_request_id", "CORRELATION_ID", "traceparent", "tracestate", "baggage", "x-request-id")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_costs_only_itself(play: Play, stranger: Driver, case: str) -> None:
    """The task runs, retries and gets an ID of its own; nothing of the header is in it."""
    found = stranger("with_headers", dict.fromkeys(KEYS, HOSTILE[case]))["result"]
    assert found["request_id"] == found["trace_id"]
    assert request_id.accept(found["request_id"]) == found["request_id"]
    spans = play.stage.trace(found["trace_id"], 5)
    assert [span.name for span in sorted(spans, key=lambda span: span.start)] == [
        "run again",
        "publish again",
        "run again",
        "publish again",
        "run again",
    ]
    assert "Signal handler" not in play.worker.output()


def test_what_a_task_raises_cannot_cost_the_telemetry_of_others(play: Play, stranger: Driver) -> None:
    stranger("many", play.stage.variables["QUEUE"], 1, "fails", "\ud800")
    answer = play.driver("delay", request_id="order-42")
    assert len(play.stage.trace(answer["trace_id"], 3)) == 3
    # The stranger's task is the root of its trace.
    (run,) = play.stage.sink.wait_spans(1, 30, lambda span: span.name == "run fails" and span.parent_id is None)
    assert [event.attributes["exception.type"] for event in run.events] == ["ValueError"]
