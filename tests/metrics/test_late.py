"""What is measured while the garbage collector runs is recorded afterwards, whatever lock it ran under."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_cc import metrics
from otel_cc.metrics import late
from otel_cc.metrics.counters import Counter
from otel_cc.metrics.histogram import LeanHistogram
from tests.metrics.collecting import collecting

LABELS: dict[str, Any] = {"a": "x"}


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def histogram(reader: InMemoryMetricReader) -> Iterator[LeanHistogram]:
    late.install()
    yield LeanHistogram(MeterProvider(metric_readers=[reader]).get_meter("m").create_histogram("h"))
    late.catch_up()


class Abandoned:
    """Something in a cycle that does its last work when the garbage collector finds it."""

    def __init__(self, last: Callable[[], object]) -> None:
        self.me, self.last = self, last

    def __del__(self) -> None:
        self.last()


def count(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    [point] = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point.count  # type: ignore[union-attr]  # a histogram's


@pytest.mark.timeout(20)
@pytest.mark.parametrize("record", ["record", "record_plain"])
def test_the_garbage_collector_runs_in_a_locked_section(
    histogram: LeanHistogram, reader: InMemoryMetricReader, record: str
) -> None:
    histogram.record(1, LABELS)
    Abandoned(lambda: getattr(histogram, record)(1, LABELS))
    with collecting(histogram):
        gc.collect()
    assert late.attention
    assert count(reader) == 1
    histogram.record(1, LABELS)
    assert count(reader) == 3
    gc.collect()
    assert not late.attention


def test_other_threads_record_at_once(histogram: LeanHistogram, reader: InMemoryMetricReader) -> None:
    def meanwhile() -> None:
        other = threading.Thread(target=histogram.record, args=(1, LABELS))
        other.start()
        other.join()

    Abandoned(meanwhile)
    gc.collect()
    assert count(reader) == 1


def test_what_waits_is_the_parents(histogram: LeanHistogram) -> None:
    Abandoned(lambda: histogram.record(1, LABELS))
    gc.collect()
    pid = os.fork()
    if pid == 0:
        os._exit(len(late._waiting))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(late._waiting) == 1


@pytest.mark.timeout(20)
def test_a_counter_counts_in_its_own_locked_section() -> None:
    counter = Counter()
    Abandoned(lambda: counter.add(1, LABELS))
    with counter._lock:
        gc.collect()
    counter.add(1, LABELS)
    assert counter._values == {(("a", "x"),): 2}


def test_an_instrument_that_is_made_while_the_others_are_looked_through_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Any allocation may run the garbage collector, and another thread meanwhile.
    made: dict[tuple[int, str], tuple[Any, Any]] = {(n, "a"): (None, None) for n in range(100)}
    monkeypatch.setattr(metrics, "_made", made)

    def another_thread(phase: str, _info: dict[str, int]) -> None:
        made[len(made), "b"] = None, Counter()

    thresholds = gc.get_threshold()
    gc.callbacks.append(another_thread)
    gc.set_threshold(1)
    try:
        assert not metrics.counts_events("c")
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(another_thread)
    assert metrics.counts_events("b")
