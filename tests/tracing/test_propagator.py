"""The request ID on its way to the next service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

from otel_cc import context, settings
from otel_cc.context import Correlation
from otel_cc.tracing import propagator
from otel_cc.tracing.propagator import RequestIdPropagator


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    before = propagate.get_global_textmap()
    settings.get.cache_clear()
    yield monkeypatch
    propagate.set_global_textmap(before)
    settings.get.cache_clear()


@pytest.fixture
def request_() -> Iterator[Correlation]:
    correlation = Correlation("order-42", 7)
    token = context.attach(correlation)
    yield correlation
    context.detach(token)


def test_an_outgoing_call_carries_the_request_id_beside_the_trace_context(request_: Correlation) -> None:
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    propagator.install()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    assert carrier == {"x-request-id": "order-42"}
    assert propagate.get_global_textmap().fields == {"traceparent", "tracestate", "x-request-id"}


def test_installing_twice_writes_it_once() -> None:
    propagator.install()
    once = propagate.get_global_textmap()
    propagator.install()
    assert propagate.get_global_textmap() is once


def test_outside_of_a_request_nothing_is_written() -> None:
    carrier: dict[str, str] = {}
    RequestIdPropagator().inject(carrier)
    assert carrier == {}


def test_the_setting_switches_it_off(restore: pytest.MonkeyPatch, request_: Correlation) -> None:
    restore.setenv("OTEL_CC_OUTGOING_ENABLED", "false")
    carrier: dict[str, str] = {}
    RequestIdPropagator().inject(carrier)
    assert carrier == {}


def test_extracting_from_a_request_keeps_its_id(request_: Correlation) -> None:
    propagator = RequestIdPropagator()
    scope = {"type": "http", "headers": [], "otel_cc": request_}
    assert context.current(propagator.extract(scope, Context())) is request_
    assert context.current(propagator.extract(Headers({}), Context())) is request_


def test_extracting_a_remote_context_keeps_the_id_of_what_is_running(request_: Correlation) -> None:
    remote = otel_context.set_value("from", "elsewhere", Context())
    assert context.current(RequestIdPropagator().extract({}, remote)) is request_


def test_extracting_from_an_empty_message_stays_empty(request_: Correlation) -> None:
    # Contrib's Celery instrumentor attaches what comes out unless it is empty, and would lose the current span.
    assert RequestIdPropagator().extract({}, Context()) == Context()
    assert RequestIdPropagator().extract({}) == otel_context.get_current()
