"""Counters: exact in threads and children, and the first event of a series can be seen to rise."""

from __future__ import annotations

import os
import sys
import threading

from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_cc.metrics import counters
from otel_cc.metrics.catalogue import SERIES_LIMIT
from otel_cc.metrics.counters import Counter


def values(counter: Counter) -> dict[tuple[object, ...], float]:
    return {
        tuple((observation.attributes or {}).items()): observation.value
        for observation in counter.observe(CallbackOptions())
    }


def test_a_new_series_is_shown_as_zero_before_its_value() -> None:
    counter = Counter()
    counter.add(2, {"a": "x"})
    assert values(counter) == {(("a", "x"),): 0}
    counter.add(1, {"a": "y"})
    assert values(counter) == {(("a", "x"),): 2, (("a", "y"),): 0}
    assert values(counter) == {(("a", "x"),): 2, (("a", "y"),): 1}


def test_the_last_collection_shows_the_value() -> None:
    counter = Counter()
    counter.add(2, {"a": "x"})
    assert counters.unannounced()
    counters.announce_all()
    assert values(counter) == {(("a", "x"),): 2}
    assert not counter.unannounced


def test_counters_are_asked_while_other_threads_make_some() -> None:
    kept = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    maker = threading.Thread(target=lambda: kept.extend(Counter() for _ in range(20_000)))
    try:
        maker.start()
        while maker.is_alive():
            counters.announce_all()
            counters.unannounced()
    finally:
        sys.setswitchinterval(before)
        maker.join()


def test_a_reader_that_announces_by_itself_takes_nothing_from_the_others() -> None:
    counter = Counter()
    counter.add(2, {"a": "x"})
    with counters.real_values():
        assert values(counter) == {(("a", "x"),): 2}
    assert values(counter) == {(("a", "x"),): 0}
    assert values(counter) == {(("a", "x"),): 2}


def test_zero_announces_a_series() -> None:
    counter = Counter()
    counter.add(0, {"a": "x"})
    values(counter)
    counter.add(1, {"a": "x"})
    assert values(counter) == {(("a", "x"),): 1}


def test_threads_lose_no_event() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(20_000):
            counter.add(1, {"a": "x"})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter.announce()
    assert values(counter) == {(("a", "x"),): 80_000}


def test_a_forked_child_counts_from_zero() -> None:
    counter = Counter()
    counter.add(5, {"a": "x"})
    counter.announce()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        counter.add(1, {"a": "x"})
        counter.announce()
        os.write(write, repr(values(counter)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == repr({(("a", "x"),): 1})
    assert values(counter) == {(("a", "x"),): 5}


def test_more_series_than_the_limit_are_one_and_none_is_lost() -> None:
    counter = Counter()
    for number in range(SERIES_LIMIT * 2):
        counter.add(1, {"a": number})
    counter.announce()
    found = values(counter)
    assert len(found) == SERIES_LIMIT
    assert sum(found.values()) == SERIES_LIMIT * 2
    assert found[(("otel.metric.overflow", True),)] == SERIES_LIMIT + 1


def test_the_sdk_exports_the_sum_as_monotonic_and_cumulative() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    counter = Counter()
    provider.get_meter("m").create_observable_counter("c", [counter.observe])
    counter.add(3, {"a": "x"})
    found = []
    for _ in range(2):
        data = reader.get_metrics_data()
        assert data is not None
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        (point,) = metric.data.data_points
        found.append((point.value, metric.data.is_monotonic))
    assert found == [(0, True), (3, True)]
