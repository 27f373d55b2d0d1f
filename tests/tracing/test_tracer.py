"""The lean tracer is used where it does all that the provider would do, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_cc import guard
from otel_cc.tracing import tracer
from otel_cc.tracing.tracer import LeanSpan, LeanTracer, get_tracer

SCOPE = "otel_cc.test"


class Spans:
    """A provider that is the current one, and what it exported."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.exporter = InMemorySpanExporter()
        if isinstance(provider, TracerProvider):
            provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Spans]:
    """``use(provider)`` makes it the global one."""
    monkeypatch.setattr(tracer, "_tracers", {})
    monkeypatch.setattr(guard, "_seen", set())

    def make(provider: Any) -> Spans:
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        return Spans(provider)

    return make


def test_the_sdks_provider_gets_lean_spans(use: Callable[[Any], Spans]) -> None:
    spans = use(TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False))
    found = get_tracer(SCOPE)
    assert type(found) is LeanTracer
    assert get_tracer(SCOPE) is found
    with found.start_as_current_span("outer"), found.start_as_current_span("inner", attributes={"key": "value"}):
        pass
    inner, outer = spans.ended
    assert type(inner) is LeanSpan
    assert inner.parent is not None and outer.context is not None
    assert (inner.name, inner.attributes, inner.parent.span_id) == ("inner", {"key": "value"}, outer.context.span_id)
    assert inner.instrumentation_scope is not None
    assert (inner.instrumentation_scope.name, inner.resource.attributes["service.name"]) == (SCOPE, "shop")


def test_a_resource_that_changes_reaches_the_lean_tracer(use: Callable[[Any], Spans]) -> None:
    spans = use(TracerProvider(shutdown_on_exit=False))
    found = get_tracer(SCOPE)
    # As the SDK does in a forked child.
    spans.provider._update_resource(Resource({"service.instance.id": "child"}))
    found.start_span("later").end()
    assert spans.ended[0].resource.attributes["service.instance.id"] == "child"


class Foreign(trace.TracerProvider):
    """A provider that is not the SDK's."""

    def __init__(self) -> None:
        self.tracer = trace.NoOpTracer()

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return self.tracer


class Derived(TracerProvider):
    """One that may do more than the SDK's."""


def test_a_foreign_provider_keeps_its_own_tracer(use: Callable[[Any], Spans]) -> None:
    provider = Foreign()
    use(provider)
    assert get_tracer(SCOPE) is provider.tracer


def test_a_provider_that_is_derived_from_the_sdks_keeps_its_own_tracer(use: Callable[[Any], Spans]) -> None:
    use(Derived(shutdown_on_exit=False))
    assert type(get_tracer(SCOPE)) is Tracer


def test_a_disabled_sdk_records_nothing(use: Callable[[Any], Spans], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    use(TracerProvider(shutdown_on_exit=False))
    found = get_tracer(SCOPE)
    assert not isinstance(found, LeanTracer)
    assert not found.start_span("nothing").is_recording()


@pytest.mark.parametrize("limit", ["max_span_attribute_length", "max_attribute_length"])
def test_a_limit_on_the_length_of_values_is_kept(use: Callable[[Any], Spans], limit: str) -> None:
    spans = use(TracerProvider(span_limits=SpanLimits(**{limit: 4}), shutdown_on_exit=False))
    found = get_tracer(SCOPE)
    assert type(found) is Tracer
    found.start_span("cut", attributes={"db.query.text": "SELECT 1"}).end()
    assert spans.ended[0].attributes == {"db.query.text": "SELE"}


def test_an_sdk_that_is_built_otherwise_keeps_its_own_tracer_and_is_told_of_once(
    use: Callable[[Any], Spans], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def takes_fewer(self: LeanTracer, sampler: Any, resource: Any) -> None:
        pass

    use(TracerProvider(shutdown_on_exit=False))
    # What it inherits from the SDK's tracer.
    monkeypatch.setattr(LeanTracer, "__init__", takes_fewer)
    with caplog.at_level(logging.WARNING, "otel_cc"):
        for scope in (SCOPE, "otel_cc.other"):
            assert not isinstance(get_tracer(scope), LeanTracer)
    assert [record.getMessage() for record in caplog.records if record.name == "otel_cc"] == [
        "this OpenTelemetry SDK has no place for the lean tracer; its own is used."
    ]


def test_a_new_provider_gets_a_new_tracer(use: Callable[[Any], Spans]) -> None:
    first = use(TracerProvider(shutdown_on_exit=False))
    before = get_tracer(SCOPE)
    second = use(TracerProvider(shutdown_on_exit=False))
    get_tracer(SCOPE).start_span("new").end()
    assert get_tracer(SCOPE) is not before
    assert (len(first.ended), len(second.ended)) == (0, 1)


def test_what_is_not_sampled_is_not_recorded(use: Callable[[Any], Spans]) -> None:
    spans = use(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    span = get_tracer(SCOPE).start_span("unsampled")
    assert (span.is_recording(), span.get_span_context().is_valid) == (False, True)
    span.end()
    assert spans.ended == ()
