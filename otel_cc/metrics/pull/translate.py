"""From what the SDK has collected to Prometheus terms: names of the catalogue, of upstream's exporter for all others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_attribute, sanitize_full_name
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Metric, MetricsData, Sum

from otel_cc import guard
from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name
from otel_cc.metrics.pull import merge
from otel_cc.metrics.pull.snapshot import Distribution, Exemplar, Family, Labels, Number, Snapshot, clean

# What describes one process says nothing about the service.
_OF_A_PROCESS = ("process_", "thread_")


def target(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of the resource that all processes of a service share."""
    labels = dict(_labels(attributes.items()))
    return {
        name: value
        for name, value in labels.items()
        if name != "service_instance_id" and not name.startswith(_OF_A_PROCESS)
    }


def snapshot(data: MetricsData | None) -> Snapshot:
    """Everything that was collected; names that clash after the translation are added to each other."""
    made = Snapshot()
    for resource_metrics in data.resource_metrics if data else ():
        made.target.update(target(resource_metrics.resource.attributes))
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                _add(made, metric, scope_metrics.scope)
    return made


def _add(made: Snapshot, metric: Metric, scope: Any) -> None:
    kind = _kind(metric.data)
    if kind is None:
        guard.warn_once(
            f"pull {metric.name}", "the metric %s is not exported: Prometheus has no such kind of metric.", metric.name
        )
        return
    name, unit = names(metric.name, metric.unit or "", kind)
    family = made.families.get((name, kind))
    if family is None:
        family = made.families[name, kind] = Family(name, kind, clean(metric.description or ""), unit, _merged(metric))
    points: Iterable[Any] = metric.data.data_points
    for point in points:
        labels = _labels([*_scope(metric.name, scope), *(point.attributes or {}).items()])
        if kind == "histogram":
            if any(label == "le" for label, _ in labels):
                # The page has a label of this name itself.
                labels = tuple(sorted(("exported_le" if label == "le" else label, value) for label, value in labels))
            merge.add(family, labels, _distribution(point))
        else:
            merge.add(family, labels, Number(point.value))


def _kind(data: object) -> str | None:
    if isinstance(data, Histogram):
        return "histogram"
    if isinstance(data, Sum):
        # https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#sums
        return "counter" if data.is_monotonic else "gauge"
    return "gauge" if isinstance(data, Gauge) else None


def _merged(metric: Metric) -> str:
    if metric.name in CATALOGUE:
        return CATALOGUE[metric.name].merged
    return "max" if isinstance(metric.data, Gauge) else "sum"


@lru_cache(maxsize=4096)
def names(name: str, unit: str, kind: str) -> tuple[str, str]:
    """The name of a metric without ``_total``, and its unit when the name ends in it."""
    suffix: str = map_unit(unit)
    if name in CATALOGUE:
        shown = prometheus_name(name).removesuffix("_total")
    else:
        shown = sanitize_full_name(name)
        if kind == "counter":
            shown = shown.removesuffix("_total")
        if suffix and not shown.endswith(f"_{suffix}"):
            shown += f"_{suffix}"
    return shown, suffix if suffix and shown.endswith(f"_{suffix}") else ""


def _scope(name: str, scope: Any) -> Iterable[tuple[str, Any]]:
    """The labels of the scope, as upstream writes them; the names of the catalogue are unique without them."""
    if name in CATALOGUE or scope is None:
        return
    yield "otel_scope_name", scope.name or ""
    yield "otel_scope_version", scope.version or ""
    if scope.schema_url:
        yield "otel_scope_schema_url", scope.schema_url
    for key, value in (scope.attributes or {}).items():
        yield f"otel_scope_{key}", value


def _labels(attributes: Iterable[tuple[str, Any]]) -> Labels:
    return _named(
        tuple((key, value if isinstance(value, str) else json.dumps(value, default=str)) for key, value in attributes)
    )


# The same series come at every collection.
@lru_cache(maxsize=16384)
def _named(texts: tuple[tuple[str, str], ...]) -> Labels:
    found: dict[str, list[str]] = {}
    for key, text in sorted(texts):
        found.setdefault(str(sanitize_attribute(key)) or "_", []).append(clean(text))
    # https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-attributes
    return tuple(sorted((name, ";".join(values)) for name, values in found.items()))


def _distribution(point: Any) -> Distribution:
    exemplars = (
        Exemplar(found.value, found.time_unix_nano / 1e9, f"{found.trace_id:032x}", f"{found.span_id:016x}")
        for found in point.exemplars or ()
        if found.trace_id and found.span_id
    )
    bounds = tuple(point.explicit_bounds)
    return Distribution(bounds, tuple(point.bucket_counts), point.sum, merge.newest(bounds, exemplars))
