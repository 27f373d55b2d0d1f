"""What the export of spans tells of itself: what waits, what was dropped, what the backend did not get, and how long it took.

The names are those of https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/. Of all sampled spans that ended,
each is in exactly one of ``queue.size``, ``processed`` with an error type (dropped), ``exporter.span.inflight`` and
``exporter.span.exported``.
"""

from __future__ import annotations

from typing import Any, Protocol

from otel_cc import metrics
from otel_cc.otlp.measures import ExportMeasures, component, measures_itself


class Queue(Protocol):
    """Where the numbers are.

    :ivar limit: how many spans may wait
    :ivar processed: how many were given to the exporter
    :ivar in_flight: how many it has at the moment
    :ivar dropped: how many were not kept, by the reason
    """

    exporter: Any
    limit: int
    processed: int
    in_flight: int
    dropped: dict[str, int]

    @property
    def waiting(self) -> int:
        """How many spans wait."""


class Measures:
    """The instruments of one queue and its exporter; made when its first span comes.

    :param queue: of the spans
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._processor = component("batching_span_processor")
        self._failed = {
            reason: {**self._processor, "error.type": reason} for reason in ("queue_full", "already_shutdown")
        }
        for name, read in (
            ("otel.sdk.processor.span.queue.size", self._size),
            ("otel.sdk.processor.span.queue.capacity", self._capacity),
            ("otel.sdk.processor.span.processed", self._processed),
        ):
            metrics.observe(name, read, in_children=True)
        self._exports: ExportMeasures | None = None
        if not measures_itself(queue.exporter):
            self._exports = ExportMeasures(queue.exporter, "span")
            metrics.observe("otel.sdk.exporter.span.inflight", self._in_flight, in_children=True)

    def exported(self, spans: int, seconds: float, succeeded: bool, error: BaseException | None) -> None:
        """An export has ended.

        :param spans: how many it had
        :param seconds: how long it took
        :param error: what the exporter raised
        """
        if self._exports is not None:
            told = getattr(self._queue.exporter, "failure", None)
            self._exports.ended(spans, seconds, None if succeeded else told or (None, error))

    def _size(self) -> metrics.Values:
        return [(self._queue.waiting, self._processor)]

    def _capacity(self) -> metrics.Values:
        return [(self._queue.limit, self._processor)]

    def _processed(self) -> metrics.Values:
        dropped = [(self._queue.dropped[reason], labels) for reason, labels in self._failed.items()]
        return [(self._queue.processed, self._processor), *dropped]

    def _in_flight(self) -> metrics.Values:
        return [] if self._exports is None else [(self._queue.in_flight, self._exports.labels)]
