"""Our encoder writes what the official one writes, and never loses everything because of one metric."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_cc.otlp import metrics

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
times = st.integers(0, 2**64 - 1)
counts = st.integers(0, 2**64 - 1)
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.one_of(whole, st.floats())
attributes = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.one_of(text, st.booleans(), whole, st.floats(), st.lists(text, max_size=3), st.lists(whole, max_size=3)),
    max_size=4,
)
exemplars = st.lists(
    st.builds(
        Exemplar,
        filtered_attributes=attributes,
        value=st.one_of(whole, st.floats()),
        time_unix_nano=times,
        span_id=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
        trace_id=st.one_of(st.none(), st.integers(0, 2**128 - 1)),
    ),
    max_size=3,
)
points = st.builds(
    NumberDataPoint,
    attributes=attributes,
    start_time_unix_nano=times,
    time_unix_nano=times,
    value=numbers,
    exemplars=exemplars,
)
histogram_points = st.builds(
    HistogramDataPoint,
    attributes=attributes,
    start_time_unix_nano=times,
    time_unix_nano=times,
    count=counts,
    sum=st.one_of(st.floats(), whole),
    bucket_counts=st.lists(counts, max_size=6),
    explicit_bounds=st.lists(st.floats(), max_size=6),
    min=st.floats(),
    max=st.floats(),
    exemplars=exemplars,
)
temporalities = st.sampled_from(AggregationTemporality)
data = st.one_of(
    st.builds(Gauge, st.lists(points, max_size=3)),
    st.builds(Sum, st.lists(points, max_size=3), temporalities, st.booleans()),
    st.builds(Histogram, st.lists(histogram_points, max_size=3), temporalities),
)
scopes = st.builds(InstrumentationScope, text, st.one_of(st.none(), text), st.one_of(st.none(), text), attributes)
collected = st.builds(
    MetricsData,
    st.lists(
        st.builds(
            ResourceMetrics,
            st.builds(Resource, attributes, text),
            st.lists(
                st.builds(ScopeMetrics, scopes, st.lists(st.builds(Metric, text, text, text, data), max_size=4), text),
                max_size=2,
                unique_by=lambda one: one.scope,
            ),
            text,
        ),
        max_size=2,
        unique_by=lambda one: one.resource,
    ),
)


def official(collected: MetricsData) -> bytes:
    encoded: bytes = encode_metrics(collected).SerializeToString()
    return encoded


def of(*found: Metric) -> MetricsData:
    scope = ScopeMetrics(InstrumentationScope("test"), list(found), "")
    return MetricsData([ResourceMetrics(Resource({"service.name": "shop"}), [scope], "")])


def counter(name: str, value: Any) -> Metric:
    point = NumberDataPoint({"key": "value"}, 1, 2, value)
    return Metric(name, None, "1", Sum([point], AggregationTemporality.CUMULATIVE, True))


def names(encoded: bytes) -> Iterable[str]:
    request = ExportMetricsServiceRequest.FromString(encoded)
    return [m.name for resource in request.resource_metrics for s in resource.scope_metrics for m in s.metrics]


@given(collected)
def test_the_bytes_equal_those_of_the_official_encoder(collected: MetricsData) -> None:
    assert metrics.encode(collected) == official(collected)


@pytest.mark.parametrize("exponential", [False, True])
def test_metrics_of_real_instruments_have_the_bytes_of_the_official_encoder(exponential: bool) -> None:
    reader = InMemoryMetricReader()
    views = [View(instrument_name="h*", aggregation=ExponentialBucketHistogramAggregation())] if exponential else []
    meter = MeterProvider([reader], views=views).get_meter("test", "1.0")
    with TracerProvider().get_tracer("test").start_as_current_span("one"):
        meter.create_counter("counter", "1", "counted").add(3, {"a": 1})
        meter.create_up_down_counter("up.down").add(-2.5)
        histogram = meter.create_histogram("histogram", "s")
        for seconds in (0, 0.001, 0.5, -3, 10**9):
            histogram.record(seconds, {"route": "/ü"})
    meter.create_gauge("gauge").set(7)
    collected = reader.get_metrics_data()
    assert collected is not None
    assert len(list(names(metrics.encode(collected)))) == 4
    assert metrics.encode(collected) == official(collected)


@pytest.mark.parametrize("value", [2**63, "many", None])
def test_a_metric_that_cannot_be_sent_costs_only_itself(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    collected = of(counter("before", 1), counter(f"broken {value!r}", value), counter("after", 2))
    with pytest.raises(Exception, match="broken"):
        official(collected)
    assert metrics.encode(collected) == metrics.encode(of(counter("before", 1), counter("after", 2)))
    assert caplog.messages == [metrics.LEFT_OUT % f"broken {value!r}"]
    metrics.encode(collected)
    assert len(caplog.messages) == 1


def test_a_truth_value_is_a_number() -> None:
    with pytest.raises(Exception, match="boolean"):
        official(of(counter("up", True)))
    assert metrics.encode(of(counter("up", True))) == official(of(counter("up", 1)))


def test_a_kind_of_metric_that_nobody_knows_costs_only_its_data() -> None:
    collected = of(Metric("new", "", "", "data of another kind"), counter("after", 2))  # type: ignore[arg-type]  # on purpose
    assert metrics.encode(collected) == official(collected)


def test_a_lone_surrogate_costs_one_character() -> None:
    broken, mended = (of(counter(f"name{sign}", 1)) for sign in ("\ud800", "?"))
    with pytest.raises(UnicodeError):
        official(broken)
    assert metrics.encode(broken) == metrics.encode(mended)


def test_protobuf_is_not_loaded() -> None:
    program = "import sys, otel_cc.otlp.metrics; print([m for m in sys.modules if m.startswith('google.protobuf')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
