"""The benchmark's statistics."""

from __future__ import annotations

import pytest

from benchmarks.summary import Summary, over, ratio, summarise


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([3.0], Summary(3.0, 3.0, 3.0, 1)),
        ([4.0, 2.0], Summary(3.0, 2.5, 3.5, 2)),
        ([5.0, 1.0, 3.0, 2.0, 4.0], Summary(3.0, 2.0, 4.0, 5)),
    ],
)
def test_a_summary_is_the_median_with_its_quartiles(values: list[float], expected: Summary | None) -> None:
    assert summarise(values) == expected


def test_differences_are_made_within_a_round() -> None:
    """A round in which everything was slow must not look like a costly variant."""
    assert over([10.0, 110.0], [5.0, 105.0]) == [5.0, 5.0]


def test_ratios_leave_out_rounds_whose_reference_is_not_positive() -> None:
    assert ratio([1.0, 5.0, 3.0], [2.0, -1.0, 0.0]) == [0.5]
