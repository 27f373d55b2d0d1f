"""The OTLP/HTTP exporters with our encoders: the official ones spend most of a request's telemetry time in protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util._importlib_metadata import entry_points

from otel_cc import guard
from otel_cc.otlp import client, metrics, traces
from otel_cc.otlp.measures import ExportMeasures, Failure, measures_itself
from otel_cc.tracing.processor import SpanQueue

# What the official exporters refuse to send, before compression, unless they are told otherwise.
LARGEST_REQUEST = 64 * 1024 * 1024


class FastSpans(SpanExporter):
    """Sends through the official client (endpoint, headers, TLS, compression, retries) what our encoder wrote.

    :param official: that client
    :param largest: of a request, in bytes; no limit where it is not positive
    :ivar failure: what came of the last export: the backend's status, where there was one, and the error, or None
    """

    component_type = "otlp_http_span_exporter"

    def __init__(self, official: Any, largest: int = LARGEST_REQUEST) -> None:
        self._client = official
        self._largest = largest
        self._endpoint: str = official._endpoint
        self.failure: Failure | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        body = traces.encode(spans)
        self.failure = None
        if 0 < self._largest < len(body):
            self.failure = (None, _too_large("spans", body, self._largest, "set OTEL_BSP_MAX_EXPORT_BATCH_SIZE lower"))
            return SpanExportResult.FAILURE
        result = self._client.export(body)
        if result.success:
            return SpanExportResult.SUCCESS
        self.failure = (getattr(result, "status_code", None), getattr(result, "error", None))
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._client.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class LeanSpans(FastSpans):
    """The same, made from the environment, without the official exporter."""

    def __init__(self) -> None:
        super().__init__(client.client("traces"))


class LeanMetrics(MetricExporter):
    """Metrics as the official exporter would send them, made from the environment.

    :ivar failure: what came of the last export, as above
    """

    component_type = "otlp_http_metric_exporter"

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.common import _aggregation as official

        super().__init__(official._get_temporality(None), official._get_aggregation(None))
        self._client = client.client("metrics")
        self._endpoint: str = self._client._endpoint
        self._shutdown = False
        self.failure: Failure | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        if self._shutdown:
            return MetricExportResult.FAILURE
        body = metrics.encode(metrics_data)
        self.failure = None
        if len(body) > LARGEST_REQUEST:
            remedy = "look for an attribute with too many values"
            self.failure = (None, _too_large("metrics", body, LARGEST_REQUEST, remedy))
            return MetricExportResult.FAILURE
        result = self._client.export(body)
        if result.success:
            return MetricExportResult.SUCCESS
        self.failure = (getattr(result, "status_code", None), getattr(result, "error", None))
        return MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        if not self._shutdown:
            self._shutdown = True
            self._client.shutdown()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True


class RequestPayloadTooLargeError(Exception):
    """More than may be sent at once; the name is the official one's, as it becomes the ``error.type`` of these spans."""


def _too_large(what: str, body: bytes, largest: int, remedy: str) -> RequestPayloadTooLargeError:
    error = RequestPayloadTooLargeError(f"{len(body)} bytes, of which {largest} may be sent at once")
    guard.warn_once(f"{what} too large", "%s are not sent (logged once): %s; %s.", what, error, remedy)
    return error


def lean(signal: client.Signal, names: Sequence[str]) -> dict[str, type]:
    """Those of the user's exporters that can do without protobuf and ``requests``.

    :param names: the exporters' names, as the SDK reads them from the environment
    """
    if "otlp_proto_http" not in names or not client.enough(signal):
        return {}
    found = {entry.value for entry in entry_points(group=f"opentelemetry_{signal}_exporter", name="otlp_proto_http")}
    if not all(value.startswith("opentelemetry.exporter.otlp.proto.http.") for value in found):
        # Somebody's own exporter has taken the name.
        return {}
    return {"otlp_proto_http": LeanSpans if signal == "traces" else LeanMetrics}


class _Measured(MetricExporter):
    """In front of a class of metric exporters: measures its exports, which the next one tells."""

    _measures: ExportMeasures | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any) -> MetricExportResult:
        began = perf_counter()
        failure: Failure | None = (None, None)
        try:
            # There is always a class behind this one.
            result = super().export(metrics_data, timeout_millis, **more)  # type: ignore[safe-super]
            failure = None if result is not MetricExportResult.FAILURE else getattr(self, "failure", None) or failure
            return result
        except Exception as error:
            failure = (None, error)
            raise
        finally:
            with guard.guarded("telemetry about the export of metrics"):
                if self._measures is None and not measures_itself(self):
                    self._measures = ExportMeasures(self, "metric_data_point")
                if self._measures is not None:
                    self._measures.ended(_number_of_points(metrics_data), perf_counter() - began, failure)


def _number_of_points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def measured(kind: type) -> type:
    """The same class of metric exporters, with measured exports; a reader stays as it is."""
    if not issubclass(kind, MetricExporter):
        return kind
    return type(kind.__name__, (_Measured, kind), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


def queue_for(exporter: SpanExporter, *_: object, **__: object) -> SpanQueue:
    """The span processor for an exporter that the user chose; only the official OTLP/HTTP exporter is sped up."""
    kind = type(exporter)
    if kind.__name__ == "OTLPSpanExporter" and kind.__module__.startswith("opentelemetry.exporter.otlp.proto.http"):
        official = getattr(exporter, "_client", None)
        if hasattr(official, "export") and hasattr(official, "_endpoint") and not measures_itself(exporter):
            return SpanQueue(FastSpans(official, getattr(exporter, "_max_request_size", LARGEST_REQUEST)))
    return SpanQueue(exporter)
