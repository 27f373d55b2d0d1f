"""How the time of a run is shared."""

from __future__ import annotations

import time

import pytest

from benchmarks.clock import Clock, rounds, sets


def test_the_time_left_is_shared_by_weight() -> None:
    clock = Clock(10.0, {"a": 1, "b": 3, "c": 1})

    assert clock.slice("a") == pytest.approx(2.0, abs=0.1)
    # What "a" did not use goes to the others.
    assert clock.slice("b") == pytest.approx(7.5, abs=0.1)
    assert clock.slice("c") == pytest.approx(10.0, abs=0.1)


def test_the_least_rounds_are_made_when_the_time_is_over() -> None:
    assert list(rounds(0.0, least=3, most=9)) == [0, 1, 2]


def test_a_round_that_would_not_fit_is_not_begun() -> None:
    begin = time.monotonic()
    for _ in rounds(0.3, least=1, most=100):
        time.sleep(0.07)

    assert time.monotonic() - begin < 0.33


def test_the_most_rounds_are_made_when_there_is_time() -> None:
    assert list(rounds(60.0, least=1, most=4)) == [0, 1, 2, 3]


def test_sets_share_what_the_earlier_ones_left() -> None:
    assert [round(share) for share in sets(12.0, 3)] == [4, 6, 12]
