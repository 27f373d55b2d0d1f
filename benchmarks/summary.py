"""The statistics: medians with quartiles, and comparisons that are made within a round.

The speed of a shared machine changes by the second, so two variants are compared only inside the round that measured
both; the median round counts, and its quartiles are the spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A median and its quartiles.

    :param rounds: how many values there were
    """

    median: float
    low: float
    high: float
    rounds: int


def summarise(values: Sequence[float]) -> Summary | None:
    """The summary of some values, or None when there are none."""
    if not values:
        return None
    if len(values) == 1:
        return Summary(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, low, high, len(values))


def over(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """What each round adds over the base of the same round."""
    return [value - floor for value, floor in zip(values, base, strict=False)]


def ratio(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each round relative to the reference of the same round; rounds whose reference is not positive are left out.

    Only noise makes a reference negative: a variant that seemed to cost less than nothing.
    """
    return [value / whole for value, whole in zip(values, reference, strict=False) if whole > 0]
