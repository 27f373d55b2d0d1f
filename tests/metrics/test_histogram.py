"""The lean histogram records exactly what the SDK's own would."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import TracerProvider

from otel_cc.metrics.histogram import LeanHistogram

ROUTES: list[dict[str, Any]] = [
    {"route": "/a", "code": 200},
    {"route": "/a", "code": 500},
    {"route": "/b", "code": 200},
]


def points(reader: InMemoryMetricReader) -> list[tuple[Any, ...]]:
    data = reader.get_metrics_data()
    if data is None:
        return []
    return [
        (
            tuple(point.attributes.items()), point.count, point.sum, point.min, point.max, point.bucket_counts,
            sorted((e.value, e.trace_id, tuple((e.filtered_attributes or {}).items())) for e in point.exemplars),
        )
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]  # fmt: skip


def both(**options: Any) -> tuple[list[InMemoryMetricReader], list[Any]]:
    reader = options.pop("reader", {})
    readers = [InMemoryMetricReader(**reader) for _ in range(2)]
    providers = [MeterProvider(metric_readers=[reader], **options) for reader in readers]
    made = [provider.get_meter("m").create_histogram("h") for provider in providers]
    return readers, [made[0], LeanHistogram(made[1])]


CASES: dict[str, dict[str, Any]] = {
    "cumulative": {},
    "delta": {"reader": {"preferred_temporality": {Histogram: AggregationTemporality.DELTA}}},
    "a view that drops an attribute": {"views": [View(instrument_name="h", attribute_keys={"route"})]},
}


@pytest.mark.parametrize("case", CASES)
def test_the_points_are_those_of_the_sdk(case: str) -> None:
    readers, histograms = both(**dict(CASES[case]))
    span = TracerProvider().get_tracer("t").start_span("s")
    context = trace.set_span_in_context(span, Context())
    choice = random.Random(7)
    for _ in range(3):
        # One exemplar is kept per bucket, the newest: equal sequences give equal ones.
        for _ in range(200):
            value, attributes = choice.random() * 100, choice.choice(ROUTES)
            for histogram in histograms:
                histogram.record(value, attributes, context)
        expected, found = points(readers[0]), points(readers[1])
        assert found == expected
        assert found


def test_a_provider_that_is_not_the_sdks_is_used_as_it_is() -> None:
    histogram = LeanHistogram(NoOpMeterProvider().get_meter("m").create_histogram("h"))
    for _ in range(2):
        histogram.record(1.0, ROUTES[0])


def test_a_reader_that_is_added_later_gets_the_measurements_from_then_on() -> None:
    first, second = InMemoryMetricReader(), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[first])
    if not hasattr(provider, "add_metric_reader"):
        pytest.fail("this version of the SDK cannot add readers: remove the test with the version")
    histogram = LeanHistogram(provider.get_meter("m").create_histogram("h"))
    for _ in range(2):
        histogram.record(1.0, ROUTES[0])
    provider.add_metric_reader(second)
    histogram.record(1.0, ROUTES[0])
    assert [(points(reader)[0][1]) for reader in (first, second)] == [3, 1]


def test_a_measurement_can_do_without_an_exemplar() -> None:
    readers, histograms = both()
    span = TracerProvider().get_tracer("t").start_span("s")
    context = trace.set_span_in_context(span, Context())
    token = attach(context)
    try:
        for value in (1.0, 7.0, 200.0):
            # Where no span is, the SDK takes no exemplar either.
            histograms[0].record(value, ROUTES[0], Context({"no": "span"}))
            histograms[1].record_plain(value, ROUTES[0])
    finally:
        detach(token)
    expected, found = points(readers[0]), points(readers[1])
    assert found == expected
    assert (found[0][1], found[0][-1]) == (3, [])
