"""The smallest run of the benchmark, on the packages of the development environment instead of two new ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.environment import Environments
from benchmarks.machine import Machine, machine
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.suites import celery, comments, endpoints
from benchmarks.variant import BARE, OTLP, OURS

PLAN = Plan(
    seconds=0,
    sets=1,
    side_sets=1,
    least=2,
    most=2,
    exports=(OTLP,),
    driver_exports=(OTLP,),
    side_exports=(OTLP,),
    comment_export=OTLP,
)


@pytest.fixture(scope="module")
def place() -> Iterator[Machine]:
    python = Path(sys.executable)
    with machine(Environments(base=python, ours=python)) as running:
        yield running


def test_endpoints_are_measured_and_their_spans_arrive(place: Machine) -> None:
    results = Results()

    endpoints.run(place, PLAN, results, ("json", "sqlite"), (BARE, OURS), 0)

    assert results.values("json", "spans", "ours", OTLP) == [1.0, 1.0]
    assert results.values("sqlite", "spans", "ours", OTLP) == [4.0, 4.0]
    assert results.values("sqlite", "spans", "bare", "") == [0.0, 0.0]
    assert all(value > 0 for value in results.values("sqlite", "cpu_us", "bare", ""))


def test_comments_are_measured_with_every_setting(place: Machine) -> None:
    results = Results()

    comments.run(place, PLAN, results, ("psycopg2",), 0)

    measured = {engine: len(values) for (_, _, engine, _), values in results.samples.items()}
    assert measured == {"off": 2, "control": 2, "auto": 2, "always": 2}


def test_publishing_and_running_are_measured_and_their_spans_arrive(place: Machine) -> None:
    results = Results()

    celery.run(place, PLAN, results, (OURS,), 0)

    assert results.values("publish", "spans", "ours", OTLP) == [1.0, 1.0]
    # The task that opens the window ends inside of it, the one that closes it outside.
    assert results.values("run", "spans", "ours", OTLP) == [1.01, 1.01]
    assert all(value > 0 for value in results.values("run", "per_second", "ours", OTLP))
