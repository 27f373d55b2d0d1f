"""What is written into a message, and what is believed of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_cc import request_id
from otel_cc.celery import message
from otel_cc.context import Correlation, current, with_correlation

TAGS = {"task": "shop.invoice", "framework": "celery:5.7.0"}
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def empty_context() -> Iterator[None]:
    token = otel_context.attach(Context())
    yield
    otel_context.detach(token)


def remote(trace_id: int = TRACE_ID) -> Context:
    span_context = trace.SpanContext(trace_id, 0xB7AD6B7169203331, True, trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(span_context), Context())


def identity(context: Context) -> tuple[str, int, dict[str, str]]:
    correlation = current(context)
    assert correlation is not None
    return correlation.request_id, correlation.trace_id, dict(correlation.tags())


def test_the_ids_are_written_into_empty_headers_too() -> None:
    headers: dict[str, Any] = {}
    message.write(headers, with_correlation(Correlation("order-42", TRACE_ID), remote()))
    assert headers == {"traceparent": TRACEPARENT, "otel_cc_request_id": "order-42"}


def test_what_a_retry_copied_from_the_first_message_is_replaced() -> None:
    headers = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "otel_cc_request_id": "order-41", "task": "one"}
    message.write(headers, with_correlation(Correlation("order-42", TRACE_ID), remote()))
    assert headers == {"traceparent": TRACEPARENT, "otel_cc_request_id": "order-42", "task": "one"}


def test_without_an_id_none_is_written() -> None:
    headers: dict[str, Any] = {}
    message.write(headers, Context())
    assert headers == {}


def test_no_key_is_an_attribute_of_celerys_request() -> None:
    from celery.app.task import Context as Request

    assert not {message.REQUEST_ID, "traceparent", "tracestate", "baggage"} & set(vars(Request))


def test_what_was_written_is_read() -> None:
    headers: dict[str, Any] = {}
    sent = with_correlation(Correlation("order-42", TRACE_ID), baggage.set_baggage("tenant", "7", remote()))
    message.write(headers, sent)
    context = message.read(headers, TAGS)
    assert identity(context) == ("order-42", TRACE_ID, TAGS)
    assert baggage.get_all(context) == {"tenant": "7"}
    assert trace.get_current_span(context).get_span_context().span_id == 0xB7AD6B7169203331


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"otel_cc_request_id": "order-42", "traceparent": TRACEPARENT}, "order-42"),
        ({"headers": {"otel_cc_request_id": "order-42"}, "traceparent": TRACEPARENT}, "order-42"),
        ({"otel_cc_request_id": b"order-42", "traceparent": TRACEPARENT}, "order-42"),
        ({"CORRELATION_ID": "order-42", "traceparent": TRACEPARENT}, "order-42"),
        ({"otel_cc_request_id": "a b", "CORRELATION_ID": "order-42", "traceparent": TRACEPARENT}, "order-42"),
        ({"traceparent": TRACEPARENT}, f"{TRACE_ID:032x}"),
        ({"traceparent": [TRACEPARENT]}, f"{TRACE_ID:032x}"),
        ({"headers": {"traceparent": TRACEPARENT}}, f"{TRACE_ID:032x}"),
    ],
)
def test_the_id_comes_from_the_first_header_that_has_an_acceptable_one(headers: dict[str, Any], expected: str) -> None:
    assert identity(message.read(headers, TAGS)) == (expected, TRACE_ID, TAGS)


def test_without_a_trace_a_uuid_is_the_trace_id_and_anything_else_is_not() -> None:
    uuid = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
    assert identity(message.read({"otel_cc_request_id": uuid}, TAGS))[1] == int(uuid.replace("-", ""), 16)
    first, second = (identity(message.read({"otel_cc_request_id": "order-42"}, TAGS)) for _ in range(2))
    assert first[0] == second[0] == "order-42"
    assert first[1] != second[1]


def test_a_message_inherits_nothing_that_happens_to_be_current_in_the_worker() -> None:
    otel_context.attach(with_correlation(Correlation("order-41", 1), remote(1)))
    request, trace_id, _ = identity(context := message.read({"is_eager": False}, TAGS))
    assert request == request_id.from_trace_id(trace_id)
    assert not trace.get_current_span(context).get_span_context().is_valid


def test_an_eager_task_is_a_part_of_its_caller() -> None:
    otel_context.attach(with_correlation(Correlation("order-42", TRACE_ID), remote()))
    context = message.read({"is_eager": True, "headers": {"otel_cc_request_id": "order-43"}}, TAGS)
    assert identity(context) == ("order-42", TRACE_ID, TAGS)
    assert trace.get_current_span(context).get_span_context().trace_id == TRACE_ID


def test_an_eager_task_of_a_script_gets_an_id_of_its_own_and_keeps_the_scripts_span() -> None:
    otel_context.attach(remote())
    context = message.read({"is_eager": True, "headers": None}, TAGS)
    assert identity(context) == (f"{TRACE_ID:032x}", TRACE_ID, TAGS)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["otel_cc_request_id", "CORRELATION_ID", "traceparent", "tracestate", "baggage", "headers"]


@given(st.dictionaries(st.sampled_from(KEYS), anything))
def test_whatever_a_message_has_the_task_gets_an_acceptable_id_and_the_next_message_can_be_written(
    headers: dict[str, Any],
) -> None:
    context = message.read(headers, TAGS)
    request, trace_id, tags = identity(context)
    assert request_id.accept(request) == request
    assert 0 < trace_id < 1 << 128
    assert tags == TAGS
    following: dict[str, Any] = dict(headers)
    message.write(following, context)
    assert following["otel_cc_request_id"] == request


@given(st.dictionaries(st.sampled_from(KEYS), st.lists(st.just(TRACEPARENT) | anything, max_size=3)))
def test_lists_are_read_item_by_item(headers: dict[str, Any]) -> None:
    assert current(message.read(headers, TAGS)) is not None
