"""The no-op exporters: what instrumentation costs when nothing is encoded and nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

spans = 0


class CountingSpanExporter(SpanExporter):
    """Counts the spans, so that a variant that loses some is seen."""

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        global spans
        spans += len(batch)
        return SpanExportResult.SUCCESS


class SilentMetricExporter(MetricExporter):
    """Takes the metrics and forgets them."""

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        return None
