"""OTLP as JSON: the same spans as over protobuf, and a sentence for whatever is something else."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, TraceFlags, set_span_in_context

from otel_cc.local import otlp_json
from otel_cc.local.signals import decode_spans

SPAN: dict[str, Any] = {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "name": "a"}


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def test_the_spans_are_those_of_the_protobuf_encoding() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "numbers": [1, 2]}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    link = Link(SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(1)), {"why": "retry"})
    tracer = provider.get_tracer("scope", "1.2")
    attributes = {"i": 2**62, "d": 0.5, "b": True, "s": "x"}
    outer = tracer.start_span("outer", attributes=attributes)
    inner = tracer.start_as_current_span("inner", set_span_in_context(outer), links=[link])
    with pytest.raises(ValueError, match="boo"), inner:
        raise ValueError("boo")
    outer.end()
    message = encode_spans(exporter.get_finished_spans())
    # The SDK's own JSON has base64 where OTLP wants hex.
    data = MessageToDict(message)
    for scope_spans in data["resourceSpans"][0]["scopeSpans"]:
        for span in scope_spans["spans"]:
            for entry in [span, *span.get("links", [])]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in entry:
                        entry[name] = b64decode(entry[name]).hex()
    assert otlp_json.decode(json.loads(json.dumps(data))) == list(decode_spans(message.SerializeToString()))


def test_what_newer_senders_add_is_passed_over() -> None:
    (span,) = otlp_json.decode(request({**SPAN, "kind": 77, "status": {"code": 9}, "newField": {"a": []}}))
    assert (span.kind, span.status, span.trace_id) == ("UNSPECIFIED", "UNSET", "5b8efff798038103d269b633813fc60c")


@pytest.mark.parametrize(
    "data",
    [
        [],
        "text",
        {"resourceSpans": 7},
        {"resourceSpans": [None]},
        {"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]},
        request({**SPAN, "traceId": "zz"}),
        request({**SPAN, "startTimeUnixNano": "yesterday"}),
        request({**SPAN, "startTimeUnixNano": 2**70}),
        request({**SPAN, "attributes": {"a": 1}}),
    ],
)
def test_something_else_is_refused(data: Any) -> None:
    with pytest.raises(otlp_json.Unreadable, match="no OTLP JSON"):
        otlp_json.decode(data)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return request({**SPAN, "attributes": [{"key": "deep", "value": value}]})


def test_values_that_are_nested_without_end_do_not_break_it() -> None:
    with pytest.raises(otlp_json.Unreadable):
        otlp_json.decode(nested(400))


def test_lines_with_other_signals_and_empty_ones_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "traces.json"
    lines = [json.dumps({"resourceMetrics": []}), "", json.dumps(request(SPAN)), json.dumps({"resourceLogs": [1]})]
    file.write_text("\n".join(lines) + "\n")
    assert [span.name for span in otlp_json.read([file])] == ["a"]


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "traces.json"
    line = json.dumps(request(SPAN))
    file.write_text(f"{line}\n{line[:40]}")
    assert len(list(otlp_json.read([file]))) == 1
    file.write_text(line[:40])
    assert list(otlp_json.read([file])) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello\n", "line 1, is no JSON"),
        (b"hello", "line 1, is no JSON"),
        (b"[1]", "line 1, is no JSON"),
        (b'{"data": [{"traceID": "1"}]}', "line 1: it is no OTLP JSON (it has no resourceSpans)"),
        (b'{"resourceLogs": 1}\n[1]\n', "line 2, is no JSON"),
        (b'{"resourceSpans": 7}\n', "line 1: it is no OTLP JSON"),
        (b"\x28\xb5\x2f\xfd\xff\xfe", "is no text: the collector's file exporter must write `format: json`"),
        (b"[" * 100_000 + b"\n", "line 1, is no JSON"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "traces.json"
    file.write_bytes(content)
    with pytest.raises(otlp_json.Unreadable, match=re.escape(says)) as refused:
        list(otlp_json.read([file]))
    assert str(refused.value).startswith(str(file))
    assert str(refused.value).endswith(".")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(otlp_json.Unreadable, match="cannot be read: No such file or directory"):
        list(otlp_json.read([tmp_path / "none.json"]))
    with pytest.raises(otlp_json.Unreadable, match="cannot be read: Is a directory"):
        list(otlp_json.read([tmp_path]))
