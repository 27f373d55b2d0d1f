"""What happens to statements in this process: who makes their spans and comments, and what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_cc import metrics
from otel_cc.tracing.tracer import get_tracer

if TYPE_CHECKING:
    from otel_cc.sql.pool import PoolMeasures


class ClientSpans:
    """Makes the spans and durations; set while our producer is on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.sql")
        self.duration = metrics.histogram("db.client.operation.duration")


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
