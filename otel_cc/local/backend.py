"""Where the demo asks for what its requests left behind: a receiver in its own process, or the stores of the stack."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from otel_cc.context import ATTRIBUTE
from otel_cc.local import jaeger_client, lookup, prometheus_client
from otel_cc.local.evidence import Check, Evidence
from otel_cc.local.signals import Point, Span
from otel_cc.local.sink import Sink
from otel_cc.local.stack import Stack
from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name


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


class FromStack:
    """What Jaeger and Prometheus have; ``with FromStack(stack) as backend``."""

    def __init__(self, stack: Stack) -> None:
        self._jaeger = jaeger_client.Client(stack.jaeger.url)
        self._prometheus = prometheus_client.Client(stack.prometheus.url)

    def __enter__(self) -> FromStack:
        return self

    def __exit__(self, *exc: object) -> None:
        self._jaeger.__exit__(*exc)
        self._prometheus.close()

    def spans(self, trace_id: str | None, request_id: str) -> list[Span]:
        """See :class:`Backend`."""
        found = [*(self._jaeger.trace(trace_id) if trace_id else []), *self._by_request_id(request_id)]
        return list({(span.trace_id, span.span_id): span for span in found}.values())

    def totals(self, metric: str, label: str) -> dict[str, int]:
        """See :class:`Backend`."""
        shown = prometheus_name(metric) + ("_count" if CATALOGUE[metric].kind == "histogram" else "")
        return self._prometheus.totals(shown, label.replace(".", "_"))

    def lookups(self, found: Evidence) -> list[Check]:
        """Whether Jaeger finds the trace of a request by its trace ID and by its request ID."""
        known = {span.span_id for span in found.spans}
        ways = (
            ("by trace ID", found.trace_id, {span.span_id for span in self._jaeger.trace(found.trace_id or "0")}),
            ("by request ID", found.request_id, {span.span_id for span in self._by_request_id(found.request_id)}),
        )
        return [
            Check(
                f"Jaeger {way}",
                "" if spans and spans == known else f"Jaeger has {len(spans)} of {len(known)} spans of {wanted} {way}",
            )
            for way, wanted, spans in ways
        ]

    def _by_request_id(self, request_id: str) -> list[Span]:
        wanted = lookup.Lookup(request_id, None, request_id)
        return [span for trace in self._jaeger.find(wanted) for span in trace.spans]


def _number(point: Point) -> int:
    return point.count if point.kind == "histogram" else int(point.value)
