"""The quick way to a comment: it writes what the plain one writes, whatever was written before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags, TraceState

from otel_cc.sql import comment
from otel_cc.sql.commenter import Commenter
from tests.sql.conftest import Unit
from tests.sql.test_comment import HOSTILE

STATES = [None, TraceState(), TraceState([("vendor", "a"), ("ot", "th:8")])]

keys = st.sampled_from(["a", "framework", "route", "task", "trace", "zone", "a b", "'*/", "request_id", "traceparent"])
texts = st.text(max_size=300) | st.sampled_from(["", "/items/{id}", "order-42", "100%", "*/"])
values = texts | st.none() | st.integers() | st.binary(max_size=9) | st.lists(texts, max_size=2)
units = st.builds(Unit, texts, st.just(1), st.dictionaries(keys, values, max_size=4))
linked = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(n) for n in range(4)]),
    st.sampled_from(STATES),
)


def plain(unit: Unit, link: SpanContext, doubled: bool) -> str:
    """The comment as the specification has it, without any haste."""
    tags: dict[str, Any] = dict(unit.tags())
    tags.pop("traceparent", None)
    tags |= {"db_driver": "psycopg2", "request_id": unit.request_id}
    if link.is_valid and link.trace_flags & 1:
        tags["traceparent"] = f"00-{link.trace_id:032x}-{link.span_id:016x}-{link.trace_flags:02x}"
        if link.trace_state:
            tags["tracestate"] = link.trace_state.to_header()
    return comment.comment(tags, doubled)


@given(st.lists(st.tuples(units, linked, st.booleans()), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_it_writes_what_the_plain_one_writes(statements: list[tuple[Unit, SpanContext, bool]], order: Any) -> None:
    commenter = Commenter("psycopg2")
    for _ in range(3):
        # In an order in which most things are as they were the last time, and one is not.
        for unit, link, doubled in order.choices(statements, k=len(statements) * 2):
            assert commenter.comment(unit, link, doubled) == plain(unit, link, doubled)


def link(span_id: int, **other: Any) -> SpanContext:
    return SpanContext(**{"trace_id": 1, "span_id": span_id, "is_remote": False, "trace_flags": TraceFlags(1), **other})


def test_every_change_from_one_statement_to_the_next_is_seen() -> None:
    commenter = Commenter("psycopg2")
    route = {"route": "/"}
    steps = [
        (Unit("order-42", 1, {}), link(1), True),
        (Unit("order-42", 1, {}), link(2), True),
        (Unit("order-42", 1, route), link(2), True),
        (Unit("order-43", 1, route), link(2), True),
        (Unit("order-43", 1, route), link(2, trace_id=2), True),
        (Unit("order-43", 1, route), link(2, trace_id=2, trace_flags=TraceFlags(3)), True),
        (Unit("order-43", 1, route), link(2, trace_id=2, trace_flags=TraceFlags(2)), True),
        (Unit("order-43", 1, route), link(2, trace_id=2), True),
        (Unit("order-43", 1, route), link(2, trace_id=2, trace_state=STATES[2]), True),
        (Unit("order-43", 1, route), link(2, trace_id=2, trace_state=STATES[2]), False),
        (Unit("order-43", 1, route), INVALID_SPAN_CONTEXT, False),
    ]
    for unit, named, doubled in steps:
        assert commenter.comment(unit, named, doubled) == plain(unit, named, doubled)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("doubled", [True, False])
def test_hostile_objects_are_escaped_as_in_the_plain_one(name: str, doubled: bool) -> None:
    commenter = Commenter("psycopg2")
    value: Any = HOSTILE[name]
    for unit in (Unit(value, 1, {}), Unit("order-42", 1, {"route": value})):
        assert commenter.comment(unit, link(1), doubled) == plain(unit, link(1), doubled)


def test_a_link_is_written_in_full_length() -> None:
    written = Commenter("x").comment(Unit("r", 1, {}), link(2), False)
    assert written == f"/*db_driver='x',request_id='r',traceparent='00-{'1':0>32}-{'2':0>16}-01'*/"
