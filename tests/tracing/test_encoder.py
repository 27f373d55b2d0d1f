"""Our encoder writes what the official one writes, and never loses a batch."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_cc.tracing import encoder

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
scalars = st.one_of(
    text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=20), st.none()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)
attributes = st.dictionaries(text, values, max_size=6)
contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("ot", "th:8")])]),
)
times = st.one_of(st.none(), st.integers(0, 2**64 - 1))
events = st.builds(Event, text, attributes, st.integers(0, 2**64 - 1))
links = st.builds(Link, contexts, attributes)
statuses = st.one_of(
    st.just(Status(StatusCode.UNSET)),
    st.just(Status(StatusCode.OK)),
    st.builds(Status, st.just(StatusCode.ERROR), text),
)
resources = st.sampled_from(
    [Resource({"service.name": "a", "n": 1}), Resource({}), Resource({"service.name": "b"}, "https://schema")]
)
scopes = st.sampled_from(
    [None, InstrumentationScope("s"), InstrumentationScope("t", "1.0", "https://schema", {"lean": True})]
)
spans = st.builds(
    ReadableSpan,
    name=text,
    context=contexts,
    parent=st.one_of(st.none(), contexts),
    resource=resources,
    attributes=attributes,
    events=st.lists(events, max_size=2),
    links=st.lists(links, max_size=2),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=scopes,
)


def official(batch: Sequence[ReadableSpan]) -> bytes:
    return encode_spans(batch).SerializePartialToString()


@given(st.lists(spans, max_size=5))
@settings(max_examples=60)
def test_the_bytes_equal_those_of_the_official_encoder(batch: list[ReadableSpan]) -> None:
    assert encoder.encode(batch) == official(batch)


def span(**changes: object) -> ReadableSpan:
    base = {
        "name": "GET /items/{id}",
        "context": SpanContext(1, 2, False, TraceFlags(1)),
        "resource": Resource({}),
        "start_time": 1,
        "end_time": 2,
    }
    return ReadableSpan(**{**base, **changes})  # type: ignore[arg-type]


def decoded(batch: list[ReadableSpan]) -> list[dict[str, str]]:
    request = ExportTraceServiceRequest.FromString(encoder.encode(batch))
    found = [s for resource in request.resource_spans for scope in resource.scope_spans for s in scope.spans]
    return [{pair.key: pair.value.string_value for pair in s.attributes} for s in found]


def test_a_lone_surrogate_costs_a_character_and_not_the_batch() -> None:
    hostile = span(name="a\ud800b", attributes={"k\ud800": "v\udfff", "fine": "yes"})
    with pytest.raises(UnicodeEncodeError):
        official([hostile])
    assert decoded([hostile, span(attributes={"other": "span"})]) == [{"k?": "v?", "fine": "yes"}, {"other": "span"}]


def test_a_value_that_cannot_be_encoded_costs_itself_only() -> None:
    hostile = span(attributes={"object": object(), "huge": 2**70, "nested": ["\ud800"], "fine": "yes"})
    assert decoded([hostile]) == [{"fine": "yes"}]


def test_values_that_are_all_different_do_not_grow_the_cache() -> None:
    encoder.encode([span(attributes={"id": f"value {n}"}) for n in range(3 * encoder._CACHE_LIMIT)])
    assert len(encoder._attributes) <= encoder._CACHE_LIMIT


def test_equal_values_of_different_types_are_told_apart() -> None:
    batch = [span(attributes=MappingProxyType({"v": value})) for value in (1, True, 1.0, "1", 0, False, 0.0, -0.0)]
    assert encoder.encode(batch) == official(batch)
