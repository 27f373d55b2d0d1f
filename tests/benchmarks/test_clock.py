"""How the time of a run is shared."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks import clock as clocks
from benchmarks.clock import Clock, rounds, sets


class Now:
    """The time moves when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    now = Now()
    monkeypatch.setattr(clocks, "time", SimpleNamespace(monotonic=now))
    return now


def test_the_time_left_is_shared_by_weight(now: Now) -> None:
    clock = Clock(10.0, {"a": 1, "b": 3, "c": 1})

    assert clock.slice("a") == 2.0
    # What "a" did not use goes to the others.
    assert clock.slice("b") == 7.5
    now.seconds += 4
    assert clock.slice("c") == 6.0


def test_the_least_rounds_are_made_when_the_time_is_over() -> None:
    assert list(rounds(0.0, least=3, most=9)) == [0, 1, 2]


def test_a_round_that_would_not_fit_is_not_begun(now: Now) -> None:
    begin = now.seconds
    for _ in rounds(30, least=1, most=100):
        now.seconds += 7

    assert now.seconds - begin == 28


def test_the_most_rounds_are_made_when_there_is_time() -> None:
    assert list(rounds(60.0, least=1, most=4)) == [0, 1, 2, 3]


def test_sets_share_what_the_earlier_ones_left(now: Now) -> None:
    assert list(sets(12.0, 3)) == [4, 6, 12]
