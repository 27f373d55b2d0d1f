"""What a whole run exported, and the catalogue: neither has anything that the other lacks."""

from __future__ import annotations

from collections import defaultdict

from otel_cc.local.signals import Point
from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE, Instrument
from tests.truth.stage import Run

OURS = "otel_cc."
KINDS = {
    "histogram": ("histogram", "cumulative", False),
    "counter": ("sum", "cumulative", True),
    "updown": ("sum", "cumulative", False),
    "gauge": ("gauge", "", False),
}
# What this run has no occasion for; each has a test of its own.
ELSEWHERE = {
    "commandcenter.metrics.overflow",  # test_bounds_truth.py
}
# The scopes of contrib's packages, which make these instead of us in their mode.
CONTRIBS = {
    "http.server.request.duration",
    "http.server.active_requests",
    "http.server.request.body.size",
    "http.server.response.body.size",
}
NOT_IN_CONTRIB = {"db.client.operation.duration"}


def complaints(name: str, point: Point, entry: Instrument | None) -> list[str]:
    if entry is None:
        return [f"{name} is not in the catalogue"]
    said = {
        "scope": f"{OURS}{entry.scope}",
        "kind": KINDS[entry.kind],
        "unit": entry.unit,
        "text": entry.text,
        "bounds": entry.buckets,
    }
    found = {
        "scope": point.scope,
        "kind": (point.kind, point.temporality, point.monotonic),
        "unit": point.unit,
        "text": point.description,
        "bounds": point.bounds,
    }
    wrong = [f"{name}: {key} is {found[key]!r}, not {value!r}" for key, value in said.items() if found[key] != value]
    strangers = sorted(set(point.attributes) - set(entry.attributes))
    return wrong + [f"{name}: the attribute {attribute} is not in the catalogue" for attribute in strangers]


def ours(run: Run) -> list[Point]:
    found = [point for series in run.exported.last.values() for point in series.values()]
    return [point for point in found if point.scope.startswith(OURS) or point.name.startswith("otel.")]


def test_everything_that_is_exported_is_as_the_catalogue_says(run: Run) -> None:
    wrong = {text for point in ours(run) for text in complaints(point.name, point, CATALOGUE.get(point.name))}
    assert sorted(wrong) == []


def test_no_attribute_has_more_values_than_its_bound(run: Run) -> None:
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for point in ours(run):
        for attribute, value in point.attributes.items():
            values[str(point.resource["service.instance.id"]), attribute].add(value)
    assert {key[1]: len(found) for key, found in values.items() if len(found) > BOUNDS[key[1]]} == {}


def test_every_entry_is_emitted(own: Run) -> None:
    assert sorted(set(CATALOGUE) - {point.name for point in ours(own)}) == sorted(ELSEWHERE)


def test_contrib_leaves_the_rest_to_us(contrib: Run) -> None:
    emitted = {point.name for point in ours(contrib)}
    assert sorted(set(CATALOGUE) - emitted) == sorted(ELSEWHERE | CONTRIBS | NOT_IN_CONTRIB)
    # Nothing that contrib's packages make is made by us, too.
    assert {name for name in emitted if len({p.scope for p in contrib.exported.points(name)}) > 1} == set()
    assert set(contrib.exported.last) >= CONTRIBS


def test_no_cumulative_value_falls(run: Run) -> None:
    assert run.exported.falls == []
