"""Traces are found in files by trace ID and by request ID, whole, once, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from otel_cc.local import lookup, traces
from otel_cc.local.otlp_json import decode
from tests.local.test_otlp_json import request

A, B, C = "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c10", "1" + "ab" * 15 + "c", "2" + "cd" * 15 + "e"


def span(
    trace_id: str, number: int, parent: int | None = None, request_id: str | None = None, **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": f"{number:016x}",
        "name": f"s{number}",
        "startTimeUnixNano": str(number * 1_000_000),
        "endTimeUnixNano": str(number * 1_000_000 + 500_000),
        **more,
    }
    if parent:
        found["parentSpanId"] = f"{parent:016x}"
    if request_id is not None:
        found["attributes"] = [{"key": "request.id", "value": {"stringValue": request_id}}]
    return found


def write(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def find(text: str, *files: Path) -> list[tuple[str, list[str]]]:
    found = traces.in_files(files, lookup.parse(text))
    return [(trace.trace_id, [span.name for span in trace.spans]) for trace in found]


def test_a_trace_is_collected_from_all_lines_and_files_in_order_of_start(tmp_path: Path) -> None:
    one = write(tmp_path / "1", request(span(A, 3), span(B, 9)), request(span(A.upper(), 1)))
    two = write(tmp_path / "2", request(span(A, 2)))
    assert find(A, one, two) == [(A, ["s1", "s2", "s3"])]
    assert find("0B6D5C5F-6F6C-4D0E-9C2B-1A7F3E8D9C10", one) == [(A, ["s1", "s3"])]


def test_a_request_id_leads_to_its_whole_traces_oldest_first(tmp_path: Path) -> None:
    file = write(
        tmp_path / "traces",
        request(span(B, 20, request_id="order-42"), span(C, 7, request_id="order-421")),
        request(span(A, 5, request_id="order-42")),
        request(span(A, 6)),
        request(span(C, 8, request_id="Order-42")),
    )
    assert find("order-42", file) == [(A, ["s5", "s6"]), (B, ["s20"])]
    assert find("order-4", file) == []


def test_a_request_id_is_found_as_other_encoders_write_it(tmp_path: Path) -> None:
    file = tmp_path / "traces"
    text = json.dumps(request(span(A, 1, request_id="checkout/7")))
    file.write_text(f"{json.dumps(request())}\n" + text.replace("checkout/7", "checkout\\/7") + "\n")
    assert find("checkout/7", file) == [(A, ["s1"])]


def test_an_id_that_is_no_trace_is_looked_for_as_a_request_id(tmp_path: Path) -> None:
    """A UUID that came with a traceparent is the ID of a request in the trace of its caller."""
    uuid = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
    file = write(tmp_path / "traces", request(span(B, 1, request_id=uuid)))
    assert find(uuid, file) == [(B, ["s1"])]


def test_a_span_that_was_delivered_twice_is_there_once(tmp_path: Path) -> None:
    file = write(tmp_path / "traces", request(span(A, 1)), request(span(A, 1)))
    assert find(A, file) == [(A, ["s1"])]


def test_facts_of_a_trace() -> None:
    first, second = span(A, 1, request_id="a"), span(A, 2, 1, request_id="b", status={"code": 2})
    (trace,) = traces.group(decode(request(second, first)))
    assert (trace.start, trace.request_ids, trace.errors, trace.services) == (1_000_000, ["a", "b"], 1, [""])
    assert round(trace.duration, 9) == 0.0015
