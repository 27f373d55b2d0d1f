"""The OTLP/HTTP exporter with our encoder: the official one spends most of a request's telemetry time in protobuf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_cc.tracing.processor import SpanQueue

# What the official exporter refuses to send (its default of max_request_size): larger requests take its own path.
_LARGEST_REQUEST = 64 * 1024 * 1024


class FastOTLP(SpanExporter):
    """Sends through the official exporter's client (endpoint, headers, TLS, compression, retries) what our encoder wrote.

    :param official: the official exporter, which stays the fallback
    :param send: its client's method for encoded bytes
    """

    def __init__(self, official: SpanExporter, send: Callable[[bytes], Any]) -> None:
        from otel_cc.tracing.encoder import encode

        self.official = official
        self._send = send
        self._encode = encode

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = self._encode(spans)
        if len(body) > _LARGEST_REQUEST:
            return self.official.export(spans)
        return SpanExportResult.SUCCESS if self._send(body).success else SpanExportResult.FAILURE

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
        if send is not None and not _measures_itself(exporter):
            return SpanQueue(FastOTLP(exporter, send))
    return SpanQueue(exporter)


def _measures_itself(exporter: SpanExporter) -> bool:
    """Whether the user switched the SDK's own exporter metrics on: they are recorded in the official export only."""
    return not type(getattr(exporter, "_metrics", None)).__name__.lower().startswith(("noop", "none"))
