"""The instruments of statements and of connection pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from otel_cc import metrics
from otel_cc.metrics import Values
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


class PoolMeasures:
    """The instruments of pools; made when our producer, or contrib's, is switched on.

    :param readers: what is read of all pools, by the name of the instrument
    """

    def __init__(self, readers: Mapping[str, Callable[[], Values]]) -> None:
        self.timeouts = metrics.counter("db.client.connection.timeouts")
        self.wait_time = metrics.histogram("db.client.connection.wait_time")
        self.create_time = metrics.histogram("db.client.connection.create_time")
        self.use_time = metrics.histogram("db.client.connection.use_time")
        # A forked child has the engines of its parent and connections of its own.
        self._take_back = [metrics.observe(name, read, in_children=True) for name, read in readers.items()]

    def close(self) -> None:
        """Report nothing any more."""
        for take_back in self._take_back:
            take_back()
