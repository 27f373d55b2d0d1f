"""What the export of spans tells of itself: what waits, what was dropped, what the backend did not get, and how long it took.

The names are those of https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/. Of all sampled spans that ended,
each is in exactly one of ``queue.size``, ``processed`` with an error type (dropped), ``exporter.span.inflight`` and
``exporter.span.exported``.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otel_cc import metrics
from otel_cc.error_type import type_name
from otel_cc.metrics.catalogue import OTHER

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_cc.tracing.processor import SpanQueue

_numbers: defaultdict[str, count[int]] = defaultdict(count)


class Measures:
    """The instruments of one queue and its exporter; made when its first span comes.

    :param queue: where the numbers are
    """

    def __init__(self, queue: SpanQueue) -> None:
        self._queue = queue
        self._processor = _component("batching_span_processor")
        self._exporter = {**_component(_type(queue.exporter)), **_server(queue.exporter)}
        self._failed = {
            reason: {**self._processor, "error.type": reason} for reason in ("queue_full", "already_shutdown")
        }
        for name, read in (
            ("otel.sdk.processor.span.queue.size", self._size),
            ("otel.sdk.processor.span.queue.capacity", self._capacity),
            ("otel.sdk.processor.span.processed", self._processed),
        ):
            metrics.observe(name, read, in_children=True)
        self._exported: Any = None
        if not measures_itself(queue.exporter):
            metrics.observe("otel.sdk.exporter.span.inflight", self._in_flight, in_children=True)
            self._exported = metrics.counter("otel.sdk.exporter.span.exported")
            self._exported.add(0, self._exporter)
            self._duration = metrics.histogram("otel.sdk.exporter.operation.duration")
        self._labels = lru_cache(maxsize=256)(self._make_labels)

    def exported(self, spans: int, seconds: float, succeeded: bool, error: BaseException | None) -> None:
        """An export has ended.

        :param spans: how many it had
        :param seconds: how long it took
        :param error: what the exporter raised
        """
        if self._exported is None:
            return
        status: int | None = None
        failure = "" if succeeded else OTHER
        told = getattr(self._queue.exporter, "failure", None)
        if not succeeded and told is not None:
            status, error = told
        if status is not None:
            failure = str(status)
        elif error is not None:
            failure = type_name(type(error))
        exported, took = self._labels(metrics.bounded("error.type", failure) if failure else "", status)
        self._exported.add(spans, exported)
        self._duration.record_plain(seconds, took)

    def _make_labels(self, failure: str, status: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        exported = {**self._exporter, **({"error.type": failure} if failure else {})}
        return exported, {**exported, **({} if status is None else {"http.response.status_code": status})}

    def _size(self) -> metrics.Values:
        return [(self._queue.waiting, self._processor)]

    def _capacity(self) -> metrics.Values:
        return [(self._queue.limit, self._processor)]

    def _processed(self) -> metrics.Values:
        dropped = [(self._queue.dropped[reason], labels) for reason, labels in self._failed.items()]
        return [(self._queue.processed, self._processor), *dropped]

    def _in_flight(self) -> metrics.Values:
        return [(self._queue.in_flight, self._exporter)]


def measures_itself(exporter: SpanExporter) -> bool:
    """Whether the user switched the SDK's own exporter metrics on: they are recorded in the official export only."""
    return not type(getattr(exporter, "_metrics", None)).__name__.lower().startswith(("noop", "none"))


def _component(kind: str) -> dict[str, Any]:
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{next(_numbers[kind])}"}


def _type(exporter: SpanExporter) -> str:
    """The well-known name of the official exporters; of others that of their class, as the conventions ask."""
    known = getattr(exporter, "component_type", None)
    if isinstance(known, str):
        return known
    cls = type(exporter)
    if cls.__name__ == "OTLPSpanExporter":
        for part, name in ((".proto.http", "otlp_http_span_exporter"), (".proto.grpc", "otlp_grpc_span_exporter")):
            if part in cls.__module__:
                return name
    return f"{cls.__module__}.{cls.__qualname__}"


def _server(exporter: SpanExporter) -> dict[str, Any]:
    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str):
        return {}
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    found: dict[str, Any] = {"server.address": parts.hostname} if parts.hostname else {}
    return found if port is None else {**found, "server.port": port}
