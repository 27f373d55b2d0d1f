"""The OTLP/HTTP exporter with our encoder: the official one spends most of a request's telemetry time in protobuf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_cc.tracing.measures import measures_itself
from otel_cc.tracing.processor import SpanQueue

# What the official exporter refuses to send (its default of max_request_size): larger requests take its own path.
_LARGEST_REQUEST = 64 * 1024 * 1024


class FastOTLP(SpanExporter):
    """Sends through the official exporter's client (endpoint, headers, TLS, compression, retries) what our encoder wrote.

    :param official: the official exporter, which stays the fallback
    :param send: its client's method for encoded bytes
    :ivar failure: what came of the last export: the backend's status, where there was one, and the error, or None
    """

    def __init__(self, official: SpanExporter, send: Callable[[bytes], Any]) -> None:
        from otel_cc.tracing.encoder import encode

        self.official = official
        self._send = send
        self.failure: tuple[int | None, BaseException | None] | None = None
        self._encode = encode

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = self._encode(spans)
        self.failure = None
        if len(body) > _LARGEST_REQUEST:
            return self.official.export(spans)
        result = self._send(body)
        if result.success:
            return SpanExportResult.SUCCESS
        self.failure = (getattr(result, "status_code", None), getattr(result, "error", None))
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.official.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def queue_for(exporter: SpanExporter, *_: object, **__: object) -> SpanQueue:
    """The span processor for an exporter that the user chose; only the official OTLP/HTTP exporter is sped up."""
    kind = type(exporter)
    if kind.__name__ == "OTLPSpanExporter" and kind.__module__.startswith("opentelemetry.exporter.otlp.proto.http"):
        client = getattr(exporter, "_client", None)
        send = getattr(client, "export", None)
        if send is not None and not measures_itself(exporter):
            return SpanQueue(FastOTLP(exporter, send))
    return SpanQueue(exporter)
