"""Every garbage collection is counted, also of a process that does hardly anything else."""

from __future__ import annotations

import gc
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_cc.metrics.catalogue import CATALOGUE
from otel_cc.process.gc_pauses import Pauses

BOUNDS = CATALOGUE["process.gc.pause.duration"].buckets


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: provider)
    return reader


@pytest.fixture
def pauses(reader: InMemoryMetricReader) -> Iterator[Pauses]:
    pauses = Pauses()
    yield pauses
    pauses.stop()


def points(reader: InMemoryMetricReader) -> dict[int, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    [metric] = data.resource_metrics[0].scope_metrics[0].metrics
    return {point.attributes["cpython.gc.generation"]: point for point in metric.data.data_points}  # type: ignore[index,misc,union-attr]  # a histogram's


def test_none_of_many_between_two_looks_is_lost(pauses: Pauses, reader: InMemoryMetricReader) -> None:
    # One that comes by itself between two lines would be in one of the numbers only.
    gc.disable()
    try:
        before = gc.get_stats()[0]["collections"]
        pauses.start()
        for _ in range(30_000):
            gc.collect(0)
        pauses.stop()
        number = gc.get_stats()[0]["collections"] - before
    finally:
        gc.enable()
    pauses.record()
    pauses.record()
    assert points(reader)[0].count == number >= 30_000


def test_each_is_in_its_bucket_and_the_sum_is_that_of_all(pauses: Pauses, reader: InMemoryMetricReader) -> None:
    durations = [0.0001, 0.0002, 0.001, 0.0011, 0.3, 20.0, 21.5]
    for duration in durations:
        pauses._seconds[1][bisect_left((*BOUNDS, math.inf), duration)] += duration
        pauses._numbers[1][bisect_left((*BOUNDS, math.inf), duration)] += 1
    pauses.record()
    point = points(reader)[1]
    expected = Counter(bisect_left(BOUNDS, duration) for duration in durations)
    assert point.bucket_counts == tuple(expected[bucket] for bucket in range(len(BOUNDS) + 1))
    assert point.sum == pytest.approx(sum(durations))


def test_one_that_is_half_noted_stays_in_its_bucket(pauses: Pauses, reader: InMemoryMetricReader) -> None:
    bucket = bisect_left(BOUNDS, 0.02)
    pauses._seconds[0][bucket], pauses._numbers[0][bucket] = 0.04, 1
    pauses.record()
    pauses._numbers[0][bucket] += 1
    pauses.record()
    assert points(reader)[0].bucket_counts[bucket] == 2
