"""The sum over processes is the sum, in whatever order and by whatever steps it is made."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.metrics.pull.merge import merge
from otel_cc.metrics.pull.snapshot import Distribution, Exemplar, Family, Number, Snapshot

LABELS = st.sampled_from([(), (("a", "1"),), (("a", "2"),), (("a", "1"), ("b", "1"))])
COUNTS = st.integers(0, 1000)
NUMBERS = st.builds(Number, COUNTS, st.booleans())
BOUNDS = st.sets(st.sampled_from([1, 2, 5, 10])).map(lambda bounds: tuple(sorted(bounds)))
EXEMPLARS = st.lists(
    st.builds(Exemplar, st.integers(0, 20), st.integers(0, 99), st.sampled_from(["aa", "bb"]), st.just("cc")),
    max_size=3,
).map(tuple)


@st.composite
def distributions(draw: Any) -> Distribution:
    bounds = draw(BOUNDS)
    counts = draw(st.lists(COUNTS, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    return Distribution(bounds, tuple(counts), draw(COUNTS), draw(EXEMPLARS))


def family(name: str, kind: str, merged: str, points: Any) -> st.SearchStrategy[Family]:
    return st.builds(
        Family,
        st.just(name),
        st.just(kind),
        st.just("help"),
        st.just(""),
        st.just(merged),
        st.dictionaries(LABELS, points, max_size=3),
    )


SNAPSHOTS = st.lists(
    st.lists(
        st.one_of(
            family("requests", "counter", "sum", NUMBERS),
            family("level", "gauge", "sum", NUMBERS),
            family("newest", "gauge", "max", NUMBERS),
            family("seconds", "histogram", "sum", distributions()),
        ),
        max_size=4,
    ).map(lambda families: Snapshot(families={(one.name, one.kind): one for one in families})),
    max_size=5,
)


def plain(snapshot: Snapshot) -> dict[Any, Any]:
    """The points, without the exemplars that a merge drops from an input that has several in one bucket."""
    normal = merge([snapshot, Snapshot(families={k: replace(f, series={}) for k, f in snapshot.families.items()})])
    return {key: one.series for key, one in normal.families.items()}


@given(SNAPSHOTS)
def test_every_point_is_what_the_points_of_all_processes_make_together(snapshots: list[Snapshot]) -> None:
    merged = merge(snapshots)
    assert set(merged.families) == {key for one in snapshots for key in one.families}
    for (name, _), found in merged.families.items():
        inputs = [
            one.families[found.name, found.kind].series for one in snapshots if (found.name, found.kind) in one.families
        ]
        assert set(found.series) == {labels for series in inputs for labels in series}
        for labels, point in found.series.items():
            parts = [series[labels] for series in inputs if labels in series]
            if name == "seconds":
                common = set.intersection(*(set(part.bounds) for part in parts))
                assert set(point.bounds) == common
                assert sum(point.counts) == sum(sum(part.counts) for part in parts)
                assert point.sum == sum(part.sum for part in parts)
                for bound, below in zip(point.bounds, accumulate(point.counts), strict=False):
                    assert below == sum(sum(part.counts[: part.bounds.index(bound) + 1]) for part in parts)
            else:
                together = max if name == "newest" else sum
                assert point == Number(together(part.value for part in parts), all(part.new for part in parts))


@given(SNAPSHOTS, st.randoms(use_true_random=False))
def test_neither_order_nor_grouping_matters(snapshots: list[Snapshot], random: Any) -> None:
    whole = plain(merge(snapshots))
    shuffled = list(snapshots)
    random.shuffle(shuffled)
    cut = random.randrange(len(shuffled) + 1)
    assert plain(merge([merge(shuffled[:cut]), merge(shuffled[cut:])])) == whole


@given(SNAPSHOTS)
def test_the_inputs_are_left_alone(snapshots: list[Snapshot]) -> None:
    before = [{key: dict(one.series) for key, one in snapshot.families.items()} for snapshot in snapshots]
    merge(snapshots)
    after = [{key: dict(one.series) for key, one in snapshot.families.items()} for snapshot in snapshots]
    assert after == before


@given(SNAPSHOTS)
def test_of_the_dead_remains_what_only_rises(snapshots: list[Snapshot]) -> None:
    for snapshot in snapshots:
        kept = snapshot.lasting().families
        assert kept == {key: one for key, one in snapshot.families.items() if key[1] != "gauge"}


def gauges(*values: float) -> float:
    found = merge(
        Snapshot(families={("g", "gauge"): Family("g", "gauge", merged="max", series={(): Number(value)})})
        for value in values
    )
    return float(found.families["g", "gauge"].series[()].value)


@pytest.mark.parametrize("values", [(math.nan, 3, 2), (2, math.nan, 3), (3, 2, math.nan)])
def test_a_gauge_that_is_no_number_hides_no_other(values: tuple[float, ...]) -> None:
    assert gauges(*values) == 3


def test_of_the_service_remains_what_all_processes_say() -> None:
    targets = [{"service_name": "shop", "host_name": "a"}, {}, {"service_name": "shop", "host_name": "b", "x": "1"}]
    assert merge(Snapshot(target=target) for target in targets).target == {"service_name": "shop"}


def test_the_exemplar_of_a_bucket_is_the_newest() -> None:
    def one(at: float, value: float) -> Snapshot:
        point = Distribution((1, 2), (1, 1, 1), 3, (Exemplar(value, at, "aa", "bb"),))
        return Snapshot(families={("h", "histogram"): Family("h", "histogram", series={(): point})})

    found = merge([one(5, 0.5), one(7, 0.6), one(6, 0.7), one(1, 1.5)]).families["h", "histogram"].series[()]
    assert found.exemplars == (Exemplar(0.6, 7, "aa", "bb"), Exemplar(1.5, 1, "aa", "bb"))
