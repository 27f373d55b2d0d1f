"""Where the demo asks for what its requests left behind: the receiver in its own process."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from otel_cc.local.evidence import ATTRIBUTE
from otel_cc.local.otlp import Point, Sink, Span


class Backend(Protocol):
    """Something that can tell what arrived."""

    def spans(self, trace_id: str | None, request_id: str) -> list[Span]:
        """The spans of the trace, and those with the request ID."""

    def totals(self, metric: str, label: str) -> dict[str, int]:
        """The values of a counter, or the counts of a histogram, over all processes, by one label.

        :param metric: its name in the catalogue
        """


class FromSink:
    """What arrived at a receiver of this process.

    :param sink: where the shop exports to
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def spans(self, trace_id: str | None, request_id: str) -> list[Span]:
        """See :class:`Backend`."""
        return self.sink.spans(lambda span: span.trace_id == trace_id or span.attributes.get(ATTRIBUTE) == request_id)

    def totals(self, metric: str, label: str) -> dict[str, int]:
        """See :class:`Backend`."""
        totals: Counter[str] = Counter()
        for point in self.sink.latest(metric):
            totals[str(point.attributes.get(label, ""))] += _number(point)
        return dict(sorted(totals.items()))


def _number(point: Point) -> int:
    return point.count if point.kind == "histogram" else int(point.value)
