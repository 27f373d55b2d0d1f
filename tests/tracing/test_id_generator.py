"""Where a new trace gets its ID: every root span of one request is in the trace that its request ID stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, TraceFlags, Tracer

from otel_cc import context, request_id
from otel_cc.context import Correlation
from otel_cc.tracing.id_generator import RequestIdGenerator

UUID4 = "6f9619ff-8b86-4011-b42d-00cf4fc964ff"
TRACE_ID = 0x6F9619FF8B864011B42D00CF4FC964FF


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    provider = TracerProvider(id_generator=RequestIdGenerator(), shutdown_on_exit=False)
    yield provider.get_tracer("test")
    provider.shutdown()


@pytest.fixture
def request_in_progress() -> Iterator[Correlation]:
    trace_id = request_id.trace_id_of(UUID4)
    assert trace_id is not None
    correlation = Correlation(UUID4, trace_id)
    token = context.attach(correlation)
    yield correlation
    context.detach(token)


def span_context(tracer: Tracer, parent: SpanContext | None = None) -> SpanContext:
    """The identity of a new span."""
    around = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent))
    span = tracer.start_span("work", around)
    span.end()
    return span.get_span_context()


@pytest.mark.usefixtures("request_in_progress")
def test_a_root_span_gets_the_trace_of_the_request(tracer: Tracer) -> None:
    assert span_context(tracer).trace_id == TRACE_ID


@pytest.mark.usefixtures("request_in_progress")
def test_every_root_span_of_the_request_is_in_the_same_trace_with_an_id_of_its_own(tracer: Tracer) -> None:
    spans = [span_context(tracer) for _ in range(100)]
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert len({span.span_id for span in spans}) == 100


@pytest.mark.usefixtures("request_in_progress")
def test_a_parent_comes_first(tracer: Tracer) -> None:
    incoming = SpanContext(0xA, 0xB, True, TraceFlags(TraceFlags.SAMPLED))
    assert span_context(tracer, incoming).trace_id == 0xA


def test_outside_of_a_request_each_trace_is_new(tracer: Tracer) -> None:
    spans = [span_context(tracer) for _ in range(100)]
    assert len({span.trace_id for span in spans}) == 100
    assert all(span.is_valid for span in spans)


def test_the_ids_are_declared_random() -> None:
    """The low 56 bits of every ID that request_id.py lets through are random, so samplers may rely on them."""
    generator: IdGenerator = RequestIdGenerator()
    assert generator.is_trace_id_random() is True


def test_a_forked_child_makes_other_ids_than_its_parent(tracer: Tracer) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, f"{span_context(tracer).trace_id:032x}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert int(pipe.read(), 16) != span_context(tracer).trace_id
