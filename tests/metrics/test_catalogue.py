"""The catalogue is complete and consistent, and instruments are made as it says."""

from __future__ import annotations

import sys
import threading

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_cc import metrics
from otel_cc.metrics import bounds
from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE, prometheus_name


def test_every_attribute_has_a_bound_and_every_bound_an_attribute() -> None:
    used = {attribute for entry in CATALOGUE.values() for attribute in entry.attributes}
    assert used == set(BOUNDS)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_is_consistent(name: str) -> None:
    entry = CATALOGUE[name]
    assert bool(entry.buckets) == (entry.kind == "histogram")
    assert list(entry.buckets) == sorted(set(entry.buckets))
    assert entry.text.endswith(".")
    assert entry.unit in ("s", "By") or entry.unit.startswith("{")
    assert entry.merged == "sum" or entry.kind == "gauge"


def test_prometheus_names() -> None:
    assert {
        name: prometheus_name(name)
        for name in (
            "commandcenter.errors",
            "http.server.request.duration",
            "http.server.request.body.size",
            "http.server.active_requests",
            "db.client.connection.timeouts",
            "celery.worker.heartbeat.timestamp",
        )
    } == {
        "commandcenter.errors": "commandcenter_errors_total",
        "http.server.request.duration": "http_server_request_duration_seconds",
        "http.server.request.body.size": "http_server_request_body_size_bytes",
        "http.server.active_requests": "http_server_active_requests",
        "db.client.connection.timeouts": "db_client_connection_timeouts_total",
        "celery.worker.heartbeat.timestamp": "celery_worker_heartbeat_timestamp_seconds",
    }


def test_an_instrument_that_is_not_in_the_catalogue_cannot_be_made() -> None:
    for make in (metrics.histogram, metrics.counter):
        with pytest.raises(KeyError):
            make("http.server.requests")
    with pytest.raises(KeyError):
        metrics.observe("http.server.requests", lambda: ())
    with pytest.raises(TypeError, match="is a histogram in the catalogue"):
        metrics.counter("http.server.request.duration")


def test_to_observe_the_same_twice_is_to_observe_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(api, "get_meter_provider", lambda: provider)

    def read() -> metrics.Values:
        return [(3, {})]

    metrics.observe("celery.workers", read)
    take_back = metrics.observe("celery.workers", read)

    def values() -> list[float]:
        data = reader.get_metrics_data()
        found = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        return [point.value for metric in found for point in metric.data.data_points]  # type: ignore[union-attr]  # a gauge

    assert values() == [3]
    take_back()
    assert values() == []
    take_back()


@pytest.mark.timeout(20)
def test_what_is_observed_may_have_more_values_than_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK holds a lock while it asks, and making another instrument takes the same."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(api, "get_meter_provider", lambda: provider)
    number = BOUNDS["celery.worker.name"]

    def read() -> metrics.Values:
        names = {metrics.bounded("celery.worker.name", f"worker {n}") for n in range(number + 5)}
        return [(1, {"celery.worker.name": name}) for name in names]

    take_back = metrics.observe("celery.worker.up", read)
    for _ in range(2):
        data = reader.get_metrics_data()
    take_back()
    bounds._seen.clear()
    assert data is not None
    found = {m.name: len(m.data.data_points) for scope in data.resource_metrics[0].scope_metrics for m in scope.metrics}
    assert found == {"celery.worker.up": number, "commandcenter.metrics.overflow": 1}


def test_threads_that_want_the_same_instrument_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    providers: list[MeterProvider] = []
    monkeypatch.setattr(api, "get_meter_provider", lambda: providers[-1])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            providers.append(MeterProvider(shutdown_on_exit=False))
            start = threading.Barrier(2)
            made: list[object] = []

            def ask(start: threading.Barrier = start, made: list[object] = made) -> None:
                start.wait()
                made.append(metrics.counter("commandcenter.errors"))

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert made[0] is made[1]
    finally:
        sys.setswitchinterval(interval)
