"""The page of a scrape: a snapshot as the metric families of prometheus_client, which writes the formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from otel_cc import guard
from otel_cc.metrics.pull.snapshot import Distribution, Family, Labels, Snapshot, bucket_of

_CLASSES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
_SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """What the snapshot says; of two metrics that would have the same lines only one is shown."""
    if snapshot.target:
        info = InfoMetricFamily("target", "Target metadata")
        info.add_metric([], snapshot.target)
        yield info
    taken = {"target", "target_info"}
    for name, kind in sorted(snapshot.families):
        lines = {name, *(name + suffix for suffix in _SAMPLES[kind])}
        if taken & lines:
            guard.warn_once(
                f"page {name}",
                "the %s %s is not shown, because another metric has its name in Prometheus: rename one of the two.",
                kind,
                name,
            )
            continue
        taken |= lines
        yield _family(snapshot.families[name, kind])


def _family(family: Family) -> Metric:
    made: Metric = _CLASSES[family.kind](family.name, family.help, unit=family.unit)
    for labels, point in sorted(family.series.items()):
        if isinstance(point, Distribution):
            _add_histogram(made, labels, point)
        else:
            suffix = "_total" if family.kind == "counter" else ""
            made.add_sample(made.name + suffix, dict(labels), 0.0 if point.new else point.value)
    return made


def _add_histogram(made: Metric, labels: Labels, point: Distribution) -> None:
    exemplars = {
        bucket_of(point.bounds, one.value): PrometheusExemplar(
            {"trace_id": one.trace_id, "span_id": one.span_id}, one.value, one.at
        )
        for one in point.exemplars
    }
    totals = list(accumulate(point.counts))
    for number, (bound, total) in enumerate(zip((*point.bounds, float("inf")), totals, strict=True)):
        le = {**dict(labels), "le": floatToGoString(bound)}
        made.add_sample(f"{made.name}_bucket", le, total, exemplar=exemplars.get(number))
    made.add_sample(f"{made.name}_count", dict(labels), totals[-1])
    made.add_sample(f"{made.name}_sum", dict(labels), point.sum)
