"""The sum over processes: one page of many snapshots, whatever their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate, pairwise

from otel_cc.metrics.pull.snapshot import Distribution, Exemplar, Family, Labels, Number, Snapshot, bucket_of


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """All of them as one; ``run`` and ``folded`` are left to the caller.

    Counters and histograms are added, gauges added or their largest taken, as each of them says. Of what describes the
    service, that is kept which all agree on.
    """
    merged = Snapshot()
    targets = []
    for snapshot in snapshots:
        if snapshot.target:
            targets.append(snapshot.target)
        for key, family in snapshot.families.items():
            present = merged.families.get(key)
            if present is None:
                merged.families[key] = replace(family, series=dict(family.series))
            else:
                for labels, point in family.series.items():
                    add(present, labels, point)
    if targets:
        merged.target = {
            name: value for name, value in targets[0].items() if all(other.get(name) == value for other in targets)
        }
    return merged


def add(family: Family, labels: Labels, point: Number | Distribution) -> None:
    """Add a point to the series with these labels."""
    present = family.series.get(labels)
    if present is None:
        family.series[labels] = point
    elif isinstance(point, Number):
        family.series[labels] = _numbers(present, point, family.merged if family.kind == "gauge" else "sum")
    else:
        family.series[labels] = _distributions(present, point)


def _numbers(one: Number, other: Number, merged: str) -> Number:
    # A series that one of them has shown is known already, so what the others add to it is seen as a rise.
    new = one.new and other.new
    if merged == "sum":
        return Number(one.value + other.value, new)
    # NaN, which is unequal to itself, says nothing.
    values = [value for value in (one.value, other.value) if value == value]
    return Number(max(values) if values else float("nan"), new)


def _distributions(one: Distribution, other: Distribution) -> Distribution:
    bounds = one.bounds
    if bounds != other.bounds:
        # Two releases of the application at once: exact at the bounds that both have.
        bounds = tuple(bound for bound in one.bounds if bound in set(other.bounds))
        one, other = _at(one, bounds), _at(other, bounds)
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Distribution(bounds, counts, one.sum + other.sum, newest(bounds, (*one.exemplars, *other.exemplars)))


def _at(given: Distribution, bounds: tuple[float, ...]) -> Distribution:
    """The same with fewer bounds."""
    below = dict(zip(given.bounds, accumulate(given.counts), strict=False))
    totals = [0, *(below[bound] for bound in bounds), sum(given.counts)]
    counts = tuple(after - before for before, after in pairwise(totals))
    return replace(given, bounds=bounds, counts=counts)


def newest(bounds: tuple[float, ...], exemplars: Iterable[Exemplar]) -> tuple[Exemplar, ...]:
    """The last exemplar of each bucket."""
    found: dict[int, Exemplar] = {}
    for exemplar in exemplars:
        bucket = bucket_of(bounds, exemplar.value)
        present = found.get(bucket)
        if present is None or _order(exemplar) > _order(present):
            found[bucket] = exemplar
    return tuple(found[bucket] for bucket in sorted(found))


def _order(exemplar: Exemplar) -> tuple[float, str, str, float]:
    return (exemplar.at, exemplar.trace_id, exemplar.span_id, exemplar.value)
