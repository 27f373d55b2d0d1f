"""What is made of every statement: its span and duration, and the counts of errors and rows."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from otel_cc import metrics
from otel_cc.tracing.tracer import get_tracer

_NOTHING = Context()


class ClientSpans:
    """Makes the spans and durations; set while our producer is on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.sql")
        self.duration = metrics.histogram("db.client.operation.duration")

    def record(self, span: trace.Span, seconds: float, attributes: dict[str, Any]) -> None:
        """Record a duration whose exemplar leads to a span, which is never the current one."""
        self.duration.record(seconds, attributes, trace.set_span_in_context(span, _NOTHING))


class Measures:
    """Counts what contrib does not; set while our producer is on, or contrib's."""

    def __init__(self) -> None:
        self.errors = metrics.counter("db.client.errors")
        self.rows = metrics.counter("db.client.rows")
