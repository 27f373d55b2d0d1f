"""What a whole run exported, and the catalogue: neither has anything that the other lacks."""

from __future__ import annotations

from collections import defaultdict

from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE
from tests.truth.stage import Run

OURS = "otel_cc."
KINDS = {
    "histogram": ("histogram", False),
    "counter": ("sum", True),
    "updown": ("sum", False),
    "gauge": ("gauge", False),
}
# What this run has no occasion for; each has a test of its own.
ELSEWHERE = {
    "commandcenter.metrics.overflow",  # tests/metrics/test_bounds.py
}


def test_everything_that_is_exported_is_as_the_catalogue_says(own: Run) -> None:
    wrong = []
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for name, series in own.exported.last.items():
        for (process, _), point in series.items():
            if not point.scope.startswith(OURS):
                continue
            entry = CATALOGUE.get(name)
            if entry is None:
                wrong.append((name, "is not in the catalogue"))
                continue
            if (point.kind, point.monotonic) != KINDS[entry.kind] or point.unit != entry.unit:
                wrong.append((name, f"{point.kind} {point.monotonic} {point.unit}"))
            if strangers := set(point.attributes) - set(entry.attributes):
                wrong.append((name, f"has the attributes {sorted(strangers)}"))
            for attribute, value in point.attributes.items():
                values[process, attribute].add(value)
    assert sorted(set(wrong)) == []
    assert {key[1]: len(found) for key, found in values.items() if len(found) > BOUNDS[key[1]]} == {}


def test_every_entry_is_emitted(own: Run) -> None:
    assert sorted(set(CATALOGUE) - set(own.exported.last)) == sorted(ELSEWHERE)
