"""The governor: a comment goes where its cost is within the budget, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.sql.budget import COSTS, WORST, Budget, Cost, Usual
from tests.sql.conftest import DRIVERS, Driver

SHARE = 0.03
PREPARING = sorted({driver.name for driver in DRIVERS} - {"psycopg2"})


def cost(driver: str) -> Cost:
    return COSTS.get(driver, WORST)


def after(budget: Budget, *seconds: float) -> Usual:
    """What is known of a statement after executions without a comment."""
    usual = Usual()
    for one in seconds:
        budget.took(usual, one, False)
    return usual


def run(budget: Budget, usual: Usual, count: int, seconds: Callable[[bool], float]) -> list[bool]:
    """Execute a statement that takes ``seconds(with a comment?)``, and tell which executions had one."""
    had = []
    for _ in range(count):
        pays = budget.pays(usual)
        budget.took(usual, seconds(pays), pays)
        had.append(pays)
    return had


def test_a_comment_is_always_sent_where_it_is_free() -> None:
    budget = Budget("psycopg2", SHARE)
    assert budget.free
    assert budget.pays(Usual())
    assert budget.pays(after(budget, 1e-6))


@pytest.mark.parametrize("driver", PREPARING)
def test_it_is_not_free_on_a_driver_that_prepares_statements(driver: str) -> None:
    assert not Budget(driver, SHARE).free


@pytest.mark.parametrize("driver", PREPARING)
def test_a_statement_that_was_never_seen_gets_none(driver: str) -> None:
    assert not Budget(driver, SHARE).pays(Usual())


@pytest.mark.parametrize("driver", PREPARING)
@pytest.mark.parametrize("share", [0.001, 0.03, 0.5, 1.0])
def test_the_limit_is_the_cost_divided_by_the_share(driver: str, share: float) -> None:
    def pays(factor: float) -> bool:
        budget = Budget(driver, share)
        fastest = 1e-6
        after(budget, fastest)
        limit = (cost(driver).seconds + cost(driver).round_trips * fastest) / share
        return budget.pays(after(budget, limit * factor))

    assert pays(1.001)
    assert not pays(0.999)


def test_the_fastest_statement_stands_for_a_round_trip() -> None:
    budget = Budget("asyncpg", SHARE)
    far = 1e-3
    after(budget, far)
    limit = (WORST.seconds + 2 * far) / SHARE
    assert not budget.pays(after(budget, limit * 0.999))
    assert budget.pays(after(budget, limit * 1.001))


def test_an_unknown_driver_is_taken_for_the_worst() -> None:
    assert "frobnicator" not in COSTS
    budget = Budget("frobnicator", SHARE)
    after(budget, 0.0)
    assert not budget.pays(after(budget, WORST.seconds / SHARE * 0.999))
    assert budget.pays(after(budget, WORST.seconds / SHARE * 1.001))


@pytest.mark.parametrize("driver", PREPARING)
def test_a_slow_statement_has_its_comment_from_the_second_time_on_but_for_looking_again(driver: str) -> None:
    budget = Budget(driver, SHARE)
    after(budget, 1e-4)
    had = run(budget, Usual(), 100, lambda _: 1.0)
    without = [number for number, comment in enumerate(had) if not comment]
    # The first one, and the second, fourth, eighth ... of those that would have had one.
    assert without == [0, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("driver", PREPARING)
def test_a_quick_statement_never_has_one(driver: str) -> None:
    budget = Budget(driver, SHARE)
    assert not any(run(budget, Usual(), 100, lambda _: 2e-4))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_statement_that_is_slow_only_because_of_its_comment_loses_it_soon(driver: str) -> None:
    """To plan a large statement takes 60 ms, to execute the prepared one takes 1 ms."""
    budget = Budget(driver, SHARE)
    after(budget, 1e-4)
    usual = after(budget, 0.060)
    had = run(budget, usual, 1000, lambda comment: 0.061 if comment else 0.001)
    assert had[:4] == [True, False, driver == "psycopg", False]
    assert not any(had[4:])


def test_a_statement_that_became_quick_loses_its_comment_soon() -> None:
    budget = Budget("psycopg", SHARE)
    usual = Usual()
    assert run(budget, usual, 50, lambda _: 0.1)[-1]
    assert not any(run(budget, usual, 50, lambda _: 0.001)[10:])


def test_a_statement_that_became_slow_gets_its_comment_soon() -> None:
    budget = Budget("psycopg", SHARE)
    usual = Usual()
    assert not any(run(budget, usual, 50, lambda _: 0.001))
    assert sum(run(budget, usual, 20, lambda _: 0.1)) >= 15


def test_one_slow_execution_of_a_quick_statement_changes_nothing() -> None:
    budget = Budget("psycopg", SHARE)
    usual = after(budget, *[2e-4] * 20)
    budget.took(usual, 0.02, False)
    assert not budget.pays(usual)


durations = st.floats(1e-6, 10.0)


@given(st.lists(st.tuples(durations, st.booleans()), min_size=1, max_size=50), st.sampled_from(PREPARING))
def test_what_is_usual_lies_between_what_was_seen(seen: list[tuple[float, bool]], driver: str) -> None:
    budget = Budget(driver, SHARE)
    usual = Usual()
    for seconds, commented in seen:
        budget.took(usual, seconds, commented)
    assert usual.seconds is not None
    every = [seconds for seconds, _ in seen]
    assert min(every) * 0.999 <= usual.seconds <= max(every) * 1.001


@given(st.lists(durations, min_size=1, max_size=20), durations)
def test_a_comment_never_makes_a_statement_look_slower(before: list[float], commented: float) -> None:
    budget = Budget("asyncpg", SHARE)
    usual = after(budget, *before)
    was = usual.seconds
    budget.took(usual, commented, True)
    assert was is not None
    assert usual.seconds is not None
    assert usual.seconds <= was


@given(durations, st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_larger_share_never_means_fewer_comments(seconds: float, one: float, other: float) -> None:
    def pays(share: float) -> bool:
        budget = Budget("asyncpg", share)
        after(budget, 1e-6)
        return budget.pays(after(budget, seconds))

    assert pays(max(one, other)) >= pays(min(one, other))


def test_every_driver_that_the_tests_run_has_a_known_cost() -> None:
    """psycopg has one name, whether it awaits or not."""
    assert {driver.name for driver in DRIVERS if driver.name not in (*COSTS, "psycopg2")} <= {"asyncpg"}
    assert Driver("psycopg", True).name in COSTS
