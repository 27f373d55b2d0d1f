"""What happens to statements in this process: who makes their spans and comments, and what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context

from otel_cc import metrics
from otel_cc.tracing.tracer import get_tracer

if TYPE_CHECKING:
    from otel_cc.sql.pool import PoolMeasures


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


class Switches:
    """The hooks read it at every statement.

    :ivar spans: makes spans, or None
    :ivar measures: counts, or None
    :ivar pools: measures connection pools, or None
    :ivar comments: "auto", "always" or "off"
    """

    spans: ClientSpans | None = None
    measures: Measures | None = None
    pools: PoolMeasures | None = None
    comments: str = "off"


switches = Switches()


def suppressed(current: Context) -> bool:
    """Whether somebody has switched instrumentation off for what runs now."""
    return bool(current.get(_SUPPRESS_INSTRUMENTATION_KEY) or current.get("suppress_instrumentation"))
