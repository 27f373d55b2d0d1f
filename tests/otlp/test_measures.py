"""What the export of metrics tells of itself is what the backend got, and what it did not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opentelemetry.metrics
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)

from otel_cc.local.sink import Sink
from otel_cc.otlp.exporters import measured
from tests.otlp.test_exporters import AVAILABLE

EXPORTED = "otel.sdk.exporter.metric_data_point.exported"
DURATION = "otel.sdk.exporter.operation.duration"
NEVER = 3_600_000
# A provider is known by its identity: none must be forgotten.
_providers: list[MeterProvider] = []


class Exporting:
    """A meter provider that exports through an exporter, and shows what it would export next."""

    def __init__(self, exporter: MetricExporter, patch: pytest.MonkeyPatch) -> None:
        self.reader = InMemoryMetricReader()
        periodic = PeriodicExportingMetricReader(exporter, export_interval_millis=NEVER)
        self.provider = MeterProvider([periodic, self.reader], shutdown_on_exit=False)
        _providers.append(self.provider)
        patch.setattr(opentelemetry.metrics, "get_meter_provider", lambda: self.provider)
        self.counter = self.provider.get_meter("test").create_counter("counted")

    def export(self, series: int) -> None:
        for number in range(series):
            self.counter.add(1, {"number": number})
        self.provider.force_flush()

    def points(self, name: str) -> dict[str, Any]:
        """By error type; new series of counters are announced."""
        self.reader.get_metrics_data()
        self.reader.collect()
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            str((point.attributes or {}).get("error.type", "")): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


def received(sink: Sink) -> int:
    return sum(len(points) for points in sink.metrics().values())


@pytest.fixture(params=["lean", "official"])
def exporting(request: pytest.FixtureRequest, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    if request.param == "lean" and AVAILABLE:
        from otel_cc.otlp.exporters import LeanMetrics as Kind
    else:
        Kind = OTLPMetricExporter  # type: ignore[misc, assignment]
    found = Exporting(measured(Kind)(), monkeypatch)
    yield found
    found.provider.shutdown()


def test_the_points_that_arrived_are_counted(exporting: Exporting, sink: Sink) -> None:
    for series in (1, 3, 7):
        exporting.export(series)
    found = exporting.points(EXPORTED)
    assert {kind: point.value for kind, point in found.items()} == {"": received(sink)}
    attributes = dict(found[""].attributes)
    assert attributes.pop("otel.component.name").startswith("otlp_http_metric_exporter/")
    assert attributes.pop("otel.component.type") == "otlp_http_metric_exporter"
    assert attributes == {"server.address": "127.0.0.1", "server.port": sink.port}
    (took,) = exporting.points(DURATION).values()
    assert (took.count, 0 < took.sum < 60) == (3, True)


def test_the_points_that_did_not_arrive_are_counted_apart(exporting: Exporting, sink: Sink) -> None:
    exporting.export(2)
    # For good: it is not tried again.
    sink.refuse(400)
    exporting.export(5)
    sink.accept()
    found = exporting.points(EXPORTED)
    (failed,) = set(found) - {""}
    # Before 1.45 the official exporter does not tell, and now only ours does.
    assert failed in ("400", "_OTHER")
    assert found[""].value == received(sink)
    assert found[failed].value >= 5
    assert {kind: point.count for kind, point in exporting.points(DURATION).items()} == {"": 1, failed: 1}


class Broken(MetricExporter):
    """Cannot export at all."""

    def export(self, *args: Any, **kwargs: Any) -> MetricExportResult:
        raise OSError("no network")

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


def test_an_exporter_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    exporting = Exporting(measured(Broken)(), monkeypatch)
    exporting.export(4)
    ((kind, point),) = [(kind, point) for kind, point in exporting.points(EXPORTED).items() if kind]
    assert (kind, point.value) == ("OSError", 4)
    assert point.attributes["otel.component.type"] == "tests.otlp.test_measures.Broken"
    exporting.provider.shutdown()


def test_a_reader_is_left_alone() -> None:
    assert measured(InMemoryMetricReader) is InMemoryMetricReader


def test_the_sdks_own_metrics_of_the_exporter_are_not_doubled(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    exporter = measured(OTLPMetricExporter)(endpoint=f"{sink.endpoint}/v1/metrics")
    exporting = Exporting(exporter, monkeypatch)
    exporting.export(2)
    exporting.export(2)
    data = exporting.reader.get_metrics_data()
    assert data is not None
    names = [
        (scope.scope.name, m.name) for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics
    ]
    assert [scope for scope, name in names if name == EXPORTED and scope.startswith("otel_cc")] == []
    exporting.provider.shutdown()
