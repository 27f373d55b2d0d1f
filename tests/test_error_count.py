"""Errors of requests and of tasks are one metric, with labels that nobody can choose without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opentelemetry.metrics
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_cc import error_count
from otel_cc.metrics import bounds
from otel_cc.metrics.catalogue import BOUNDS

# A provider is known by its identity: none must be forgotten.
_providers: list[MeterProvider] = []


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    found = InMemoryMetricReader()
    provider = MeterProvider([found], shutdown_on_exit=False)
    _providers.append(provider)
    monkeypatch.setattr(opentelemetry.metrics, "get_meter_provider", lambda: provider)
    bounds._seen.clear()
    yield found
    bounds._seen.clear()
    provider.shutdown()


def counted(reader: InMemoryMetricReader) -> list[tuple[dict[str, Any], float]]:
    reader.get_metrics_data()
    data = reader.get_metrics_data()
    return [
        (dict(point.attributes or {}), point.value)  # type: ignore[union-attr]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "commandcenter.errors"
        for point in metric.data.data_points
    ]


def test_requests_and_tasks_are_counted(reader: InMemoryMetricReader) -> None:
    for _ in range(2):
        error_count.request("/items/{number}", 500, "ValueError")
    error_count.request(None, 404, "fastapi.exceptions.HTTPException")
    error_count.task("shop.pay", "ValueError")
    assert counted(reader) == [
        ({"endpoint": "/items/{number}", "status_code": 500, "error_type": "ValueError"}, 2),
        ({"endpoint": "unmatched", "status_code": 404, "error_type": "fastapi.exceptions.HTTPException"}, 1),
        ({"error_type": "ValueError", "celery.task.name": "shop.pay"}, 1),
    ]


def test_labels_are_bounded(reader: InMemoryMetricReader) -> None:
    for number in range(10_000):
        error_count.request(f"/{number}", 500, "ValueError")
        error_count.request("/", 500, f"Error{number}")
    found = counted(reader)
    assert sum(value for _, value in found) == 20_000
    for label in ("endpoint", "error_type"):
        values = {attributes[label] for attributes, _ in found}
        assert len(values) == BOUNDS[label]
        assert "_OTHER" in values
