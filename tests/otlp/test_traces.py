"""Our encoder writes what the official one writes, and never loses a batch."""

from __future__ import annotations

import enum
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_cc.otlp import origin, traces, wire
from otel_cc.tracing import tracer


class Colour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
scalars = st.one_of(
    text,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**63 - 1, -(2**63)]),
    st.floats(),
    st.binary(max_size=20),
    st.none(),
    st.sampled_from([Colour.RED, Number.ONE, -0.0, 0.0, 1.0]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(text, st.integers()), inner, max_size=3),
        st.builds(range, st.integers(0, 3)),
        st.builds(bytearray, st.binary(max_size=3)),
        st.builds(deque, st.lists(inner, max_size=2)),
    ),
    max_leaves=6,
)
attributes = st.dictionaries(text, values, max_size=6)
bounded = st.builds(BoundedAttributes, st.integers(0, 4), st.dictionaries(text, values, min_size=1, max_size=6))
states = st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("ot", "th:8")])])
contexts = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(flags) for flags in range(4)]),
    states,
)
times = st.one_of(st.none(), st.integers(0, 2**64 - 1))
events = st.builds(Event, text, st.one_of(st.none(), attributes, bounded), st.integers(0, 2**64 - 1))
links = st.builds(Link, contexts, st.one_of(st.none(), attributes, bounded))
statuses = st.one_of(
    st.none(),
    st.just(Status(StatusCode.UNSET)),
    st.just(Status(StatusCode.OK)),
    st.builds(Status, st.just(StatusCode.ERROR), st.one_of(st.none(), text)),
)
resources = st.sampled_from(
    [
        Resource({"service.name": "a", "n": 1}),
        # Equal to the one before, and in one group with it; the order of the first one counts.
        Resource({"n": 1, "service.name": "a"}),
        # Equal in value but not in JSON: a group of its own.
        Resource({"service.name": "a", "n": 1.0}),
        Resource({}),
        Resource({"service.name": "b", "list": ["x", "y"]}, "https://schema"),
    ]
)
scopes = st.sampled_from(
    [
        None,
        InstrumentationScope("s"),
        InstrumentationScope("s"),
        InstrumentationScope(""),
        InstrumentationScope("t", "1.0", "https://schema", {"lean": True}),
        InstrumentationScope("t", "1.0", "https://schema", {"lean": 1}),
        InstrumentationScope("t", "1.0", "https://schema", {"lean": False}),
    ]
)


def bounded_list(limit: int, items: Sequence[Any]) -> BoundedList[Any]:
    return BoundedList.from_seq(limit, items)


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(items, max_size=3)
    return st.one_of(some, some.map(tuple), st.builds(bounded_list, st.integers(0, 2), some))


spans = st.builds(
    ReadableSpan,
    name=st.one_of(st.none(), text),
    context=contexts,
    parent=st.one_of(st.none(), contexts),
    resource=resources,
    attributes=st.one_of(st.none(), attributes, bounded),
    events=several(events),
    links=several(links),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=scopes,
)


def official(batch: Sequence[ReadableSpan]) -> bytes:
    encoded: bytes = encode_spans(batch).SerializePartialToString()
    return encoded


@given(st.lists(spans, max_size=6))
@settings(max_examples=100, deadline=None)
def test_the_bytes_equal_those_of_the_official_encoder(batch: list[ReadableSpan]) -> None:
    assert traces.encode(batch) == official(batch)


class Ended(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def lean_of(provider: TracerProvider, scope: str) -> tracer.LeanTracer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = tracer._make(provider, scope)
    assert type(made) is tracer.LeanTracer
    return made


limit = st.one_of(st.none(), st.integers(0, 2))
limits = st.builds(
    SpanLimits,
    max_span_attributes=limit,
    max_events=limit,
    max_links=limit,
    max_event_attributes=limit,
    max_link_attributes=limit,
)
simple = st.dictionaries(text, st.one_of(text, st.integers(-9, 9), st.booleans(), st.tuples(text)), max_size=4)
calls = st.fixed_dictionaries(
    {
        "tracer": st.sampled_from(["app", "otel_cc.http", "otel_cc.sql"]),
        "name": text,
        "parent": st.one_of(st.none(), contexts),
        "kind": st.sampled_from(SpanKind),
        "attributes": simple,
        "links": st.lists(st.builds(Link, contexts, simple), max_size=2),
        "events": st.lists(st.tuples(text, simple, st.integers(0, 2**63)), max_size=3),
        "error": st.one_of(st.none(), text),
        "live": st.booleans(),
    }
)


def made(resource: Resource, limits: SpanLimits, calls: list[dict[str, Any]]) -> list[ReadableSpan]:
    """Spans that real tracers made and ended: of the SDK, lean, and live ones, as an exporter may be given them."""
    ended = Ended()
    provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(ended)
    tracers = {"app": provider.get_tracer("app")}
    tracers |= {scope: lean_of(provider, scope) for scope in ("otel_cc.http", "otel_cc.sql")}
    for call in calls:
        parent = call["parent"]
        span = tracers[call["tracer"]].start_span(
            call["name"],
            None if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            kind=call["kind"],
            attributes=call["attributes"],
            links=call["links"],
        )
        for event in call["events"]:
            span.add_event(*event)
        if call["error"] is not None:
            span.set_status(StatusCode.ERROR, call["error"])
        span.end()
        if call["live"] and isinstance(span, ReadableSpan):
            ended.spans.append(span)
    return ended.spans


@given(resources, limits, st.lists(calls, max_size=5))
@settings(max_examples=60, deadline=None)
def test_spans_of_real_tracers_have_the_bytes_of_the_official_encoder(
    resource: Resource, limits: SpanLimits, calls: list[dict[str, Any]]
) -> None:
    batch = made(resource, limits, calls)
    assert traces.encode(batch) == official(batch)


def span(**changes: object) -> ReadableSpan:
    base: dict[str, object] = {
        "name": "GET /items/{id}",
        "context": SpanContext(1, 2, False, TraceFlags(1)),
        "resource": Resource({}),
        "start_time": 1,
        "end_time": 2,
    }
    return ReadableSpan(**{**base, **changes})  # type: ignore[arg-type]


def decoded(batch: Sequence[ReadableSpan]) -> list[Any]:
    request = ExportTraceServiceRequest.FromString(traces.encode(batch))
    return [s for resource in request.resource_spans for scope in resource.scope_spans for s in scope.spans]


def strings(found: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in found.attributes}


class Own(ReadableSpan):
    """A span of somebody else's that answers through its properties only."""

    name = property(lambda self: "theirs")
    attributes = property(lambda self: {"a": 1})
    dropped_attributes = property(lambda self: 3)
    events = property(lambda self: [Event("e", {"b": [1]}, 5)])
    links = property(lambda self: [Link(SpanContext(3, 4, True))])
    resource = property(lambda self: Resource({"service.name": "theirs"}))


def test_a_subclass_is_read_through_its_public_properties() -> None:
    batch = [Own("x", SpanContext(1, 2, False)), span(), Own("y", SpanContext(1, 3, False))]
    assert traces.encode(batch) == official(batch)


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent is reported once per process; each test is the first."""
    monkeypatch.setattr("otel_cc.guard._seen", set())


def test_a_lone_surrogate_costs_a_character_and_not_the_batch() -> None:
    hostile = span(name="a\ud800b", attributes={"k\ud800": "v\udfff", "deep": ["\ud800"], "fine": "yes"})
    with pytest.raises(UnicodeEncodeError):
        official([hostile])
    first, second = decoded([hostile, span(attributes={"other": "span"})])
    assert first.name == "a?b"
    assert strings(first) == {"k?": "v?", "deep": "", "fine": "yes"}
    assert first.attributes[1].value.array_value.values[0].string_value == "?"
    assert strings(second) == {"other": "span"}


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


class Angry:
    def __hash__(self) -> int:
        raise RuntimeError("no hash today")


cycle: list[Any] = []
cycle += [cycle, cycle]


@pytest.mark.parametrize(
    "value", [object(), Unhashable(), Angry(), 2**63, -(2**63) - 1, [2**70], [object()], {"x": object()}, cycle, {1, 2}]
)
def test_a_value_that_cannot_be_encoded_costs_itself_only(
    value: Any, untold: None, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = [
        span(attributes={"bad": value, "fine": "yes"}),
        span(events=[Event("e", {"bad": value, "fine": "yes"}, 1)]),
    ]
    first, second = decoded(hostile)
    assert strings(first) == strings(second.events[0]) == {"fine": "yes"}
    assert [record.getMessage() for record in caplog.records if record.name == "otel_cc"] == [wire.LEFT_OUT % "bad"]


def test_a_value_nested_deeper_than_receivers_decode_is_left_out() -> None:
    def nested(levels: int) -> Any:
        value: Any = "x"
        for level in range(levels):
            value = [value] if level % 2 else {"k": value}
        return value

    deepest = max(
        n for n in range(60) if decoded([span(events=[Event("e", {"v": nested(n)}, 1)])])[0].events[0].attributes
    )
    assert deepest > 30
    allowed = [span(attributes={"v": nested(n)}) for n in range(deepest + 1)]
    assert traces.encode(allowed) == official(allowed)
    refused = span(attributes={"v": nested(deepest + 1), "fine": "yes"}, events=[Event("e", {"v": nested(500)}, 1)])
    assert strings(decoded([refused])[0]) == {"fine": "yes"}


def test_numbers_out_of_range_and_wrong_types_do_not_lose_the_batch() -> None:
    broken: list[Any] = [
        span(context=SpanContext(2**130, 2**70, False)),
        span(parent=SpanContext(-1, 2**70, True)),
        span(start_time=-5, end_time=2**70),
        span(start_time=1.5),
        span(name=["list"]),
        span(kind="SERVER"),
        span(status="ERROR"),
        span(events=[Event("e", {}, -1), Event("fine", {}, 1), None]),
        span(links=[Link(SpanContext(2**130, 1, False)), Link(SpanContext(1, 1, False))]),
        span(instrumentation_scope=InstrumentationScope(5, 6.0)),  # type: ignore[arg-type]
    ]
    for one in broken:
        with pytest.raises(Exception):  # noqa: B017, PT011  whatever it is, it loses the batch
            official([one])
    found = decoded(broken)
    assert len(found) == len(broken)
    assert (found[0].trace_id, found[0].span_id) == (b"\xff" * 16, b"\xff" * 8)
    assert (found[2].start_time_unix_nano, found[2].end_time_unix_nano) == (0, 2**64 - 1)
    assert [name.name for name in found[7].events] == ["fine"]
    assert found[7].dropped_events_count == 2
    assert (len(found[8].links), found[8].dropped_links_count) == (1, 1)


def test_a_span_without_a_context_costs_itself_only(untold: None, caplog: pytest.LogCaptureFixture) -> None:
    assert [s.name for s in decoded([span(context=None), span(name="fine")])] == ["fine"]
    assert [record.getMessage() for record in caplog.records if record.name == "otel_cc"] == [
        traces.LEFT_OUT % "ReadableSpan"
    ]


def test_values_that_are_all_different_do_not_grow_the_caches() -> None:
    many = 6 * wire.CACHE_LIMIT
    traces.encode([span(name=f"name {n}", attributes={"id": f"value {n}", f"key {n}": n}) for n in range(many)])
    traces.encode([span(attributes={"statement": f"{n}" * 300}) for n in range(6000)])
    assert len(wire.cache) <= wire.CACHE_LIMIT
    assert len(wire.cache.older) <= wire.CACHE_LIMIT
    held = sum(map(len, [*wire.cache.values(), *wire.cache.older.values()]))
    assert held <= 2 * (wire.CACHED_BYTES + wire.LONGEST_CACHED)
    assert max(len(wire._keys), len(traces._names)) <= wire.CACHE_LIMIT
    assert len(wire.varint) <= 4096


def test_resources_and_scopes_that_are_all_different_do_not_grow_the_caches() -> None:
    batch = [
        span(resource=Resource({"n": n}), instrumentation_scope=InstrumentationScope(f"s{n}"))
        for n in range(2 * origin._LIMIT)
    ]
    assert traces.encode(batch) == official(batch)
    assert max(len(origin._resources), len(origin._scopes)) <= origin._LIMIT


def test_what_comes_often_stays_in_the_cache() -> None:
    for n in range(3 * wire.CACHE_LIMIT):
        traces.encode([span(attributes={"often": "the same", "id": f"value {n}"})])
    assert ("often", str, "the same") in wire.cache


def test_equal_values_of_different_types_are_told_apart() -> None:
    for _ in range(8):
        batch = [
            span(attributes=MappingProxyType({"v": v})) for v in (1, True, 1.0, "1", 0, False, 0.0, -0.0, (1,), (True,))
        ]
        assert traces.encode(batch) == official(batch)


def test_protobuf_is_imported_only_for_what_is_not_known() -> None:
    program = "import sys, otel_cc.otlp.traces; print([m for m in sys.modules if m.startswith('google.protobuf')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
