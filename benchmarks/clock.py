"""The time of a run, shared among its suites so that a slow machine makes fewer rounds instead of a longer run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping


class Clock:
    """Hands out the time that is left, by weight.

    :param seconds: the whole run
    :param weights: of each suite that will ask
    """

    def __init__(self, seconds: float, weights: Mapping[str, float]) -> None:
        self._end = time.monotonic() + seconds
        self._weights = dict(weights)

    def slice(self, name: str) -> float:
        """The seconds that a suite may take; what earlier ones saved or overspent is shared by the rest."""
        left = max(0.0, self._end - time.monotonic())
        share = self._weights[name] / sum(self._weights.values())
        del self._weights[name]
        return left * share


def rounds(seconds: float, least: int, most: int) -> Iterator[int]:
    """Count rounds until the time is over; a round that would not fit is not begun.

    :param least: rounds that are made in any case
    :param most: rounds that are enough
    """
    begin = time.monotonic()
    for number in range(most):
        spent = time.monotonic() - begin
        if number >= least and spent * (number + 1) / number > seconds:
            return
        yield number


def sets(seconds: float, count: int) -> Iterator[float]:
    """The seconds for each of ``count`` sets of fresh processes: an equal share of what the earlier ones left."""
    end = time.monotonic() + seconds
    for number in range(count):
        yield max(0.0, end - time.monotonic()) / (count - number)
