"""How much is measured: the full run and the quick one."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.variant import NOOP, OTLP

# Drivers of PostgreSQL, as workloads.
DRIVERS = ("psycopg2", "psycopg", "psycopg async", "asyncpg")
ENDPOINTS = ("json", "sqlite", *DRIVERS)

# Operations per round. With 7 spans per request no queue of 2,048 overflows before the flush at the end of a round.
COUNTS = {"json": 200, "sqlite": 100, **dict.fromkeys(DRIVERS, 40), "celery": 100, "comments": 20}

# Share of the time of what can be measured by itself.
WEIGHTS = {"json": 5, "sqlite": 5, "drivers": 10, "celery": 7, "comments": 8, "start-up": 8}


@dataclass(frozen=True)
class Plan:
    """One kind of run.

    :param seconds: the whole run, with what has to be made and started first
    :param sets: how many times the processes of the endpoints are started afresh
    :param side_sets: the same for Celery and the comments
    :param least: rounds of each set that are made even when the time is over
    :param most: rounds of each set
    :param exports: export modes of JSON and SQLite
    :param driver_exports: export modes of the PostgreSQL drivers
    :param side_exports: export modes of Celery and the start-up
    :param comment_export: export mode of the comments
    """

    seconds: float
    sets: int
    side_sets: int
    least: int
    most: int
    exports: tuple[str, ...]
    driver_exports: tuple[str, ...]
    side_exports: tuple[str, ...]
    comment_export: str = NOOP


FULL = Plan(900, 4, 3, 5, 100, (NOOP, OTLP), (NOOP, OTLP), (NOOP, OTLP))
QUICK = Plan(145, 1, 1, 2, 50, (NOOP, OTLP), (OTLP,), (OTLP,))
