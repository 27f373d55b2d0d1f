"""What the exported metrics say of the databases is what the statements' callers wrote down and the server counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.truth.exported import difference
from tests.truth.stage import ENGINES, Run

DURATION = "db.client.operation.duration"
LABELS = ("db.namespace", "db.operation.name", "error.type")


def written(run: Run) -> Counter[tuple[Any, ...]]:
    """Operations by engine, name and error."""
    truth: Counter[tuple[Any, ...]] = Counter()
    for key, number in run.events.items():
        if key[0] == "sql" and key[1] in ENGINES:
            truth[key[1:]] += number
        elif key[0] == "many":
            # One batch has three sets of parameters, and is noted as one statement too.
            _, engine, operation = key
            truth[engine, operation, ""] -= number // 2
            truth[engine, f"BATCH {operation}", ""] += number // 2
    return truth


def test_operations_by_database_name_and_error(own: Run) -> None:
    exported = own.exported.totals(DURATION, *LABELS, where=lambda p: p.attributes.get("db.namespace") in ENGINES)
    connects = {key: number for key, number in exported.items() if key[1] == "CONNECT"}
    others = {key: number for key, number in exported.items() if key[1] != "CONNECT"}
    assert difference(others, written(own)) == {}
    assert {key[0]: number for key, number in connects.items()} == own.sessions


def test_failed_operations_are_counted_once(own: Run) -> None:
    truth = {key: number for key, number in written(own).items() if key[2]}
    exported = own.exported.totals("db.client.errors", *LABELS,
                                   where=lambda p: p.attributes.get("db.namespace") in ENGINES)  # fmt: skip
    assert difference(exported, truth) == {}


def test_rows(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    for key, number in own.events.items():
        if key[0] == "rows" and key[1] in ENGINES:
            truth[key[1:]] += number
    # asyncpg does not say how many rows a batch changed.
    unknown = {key[1:] for key in own.events if key[0] == "many" and key[1] == "async"}
    exported: Counter[tuple[Any, ...]] = Counter()
    for (engine, operation), number in own.exported.totals("db.client.rows", *LABELS[:2]).items():
        if engine in ENGINES:
            exported[engine, operation.removeprefix("BATCH ")] += int(number)
    assert {k: v for k, v in difference(exported, truth).items() if k not in unknown} == {}


def test_no_connection_is_used_when_nothing_happens(own: Run) -> None:
    used = [point for point in own.idle.points("db.client.connection.count")
            if point.attributes["db.client.connection.state"] == "used"]  # fmt: skip
    assert used
    assert {point.value for point in used} == {0}
