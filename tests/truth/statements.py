"""What the application does with its databases, counted statement by statement where it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ledger
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError


class Counting:
    """A connection that notes each statement, and at its end the ROLLBACK of what was not committed.

    :param engine: the name of the engine, which is that of its database too
    """

    def __init__(self, connection: Connection, engine: str) -> None:
        self.connection = connection
        self.engine = engine
        self._open = False

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._open and not self.connection.invalidated:
            self.note("ROLLBACK")

    def note(self, operation: str, error: DBAPIError | None = None) -> None:
        orig = error.orig if error is not None else None
        # The adapters of async drivers raise an exception of their own because of the driver's.
        cause = orig.__cause__ or orig if orig is not None and "asyncpg" in str(type(orig)) else orig
        ledger.note("sql", self.engine, operation, "" if cause is None else ledger.name(cause))

    def execute(self, statement: str, many: list[dict[str, Any]] | None = None, **parameters: Any) -> list[Any]:
        operation = statement.split()[0]
        self._open = True
        try:
            result = self.connection.execute(text(statement), many if many is not None else parameters)
        except DBAPIError as error:
            self.note(operation, error)
            raise
        if many is not None:
            # One operation with several sets of parameters.
            ledger.note("batch", self.engine, operation, amount=len(many))
            operation = f"BATCH {operation}"
        self.note(operation)
        rows = list(result) if result.returns_rows else []
        ledger.note("rows", self.engine, operation, amount=len(rows) or max(result.rowcount, 0))
        return rows

    def commit(self) -> None:
        self._open = False
        try:
            self.connection.commit()
        except DBAPIError as error:
            self.note("COMMIT", error)
            raise
        self.note("COMMIT")

    def rollback(self) -> None:
        self._open = False
        self.connection.rollback()
        self.note("ROLLBACK")


def select(c: Counting) -> None:
    c.execute("SELECT number FROM truth ORDER BY number LIMIT :number", number=10)


def insert(c: Counting) -> None:
    c.execute("INSERT INTO truth_added (value) VALUES (:value)", value=1)
    c.commit()


def several(c: Counting) -> None:
    c.execute("SELECT count(*) FROM truth")
    c.execute("INSERT INTO truth_added (value) VALUES (:value)", value=2)
    c.execute("UPDATE truth_added SET value = 3 WHERE value < 0")
    c.commit()
    c.execute("SELECT number FROM truth WHERE number < 0")


def batch(c: Counting) -> None:
    c.execute("INSERT INTO truth_added (value) VALUES (:value)", [{"value": 4}, {"value": 5}, {"value": 6}])
    c.commit()


def roll_back(c: Counting) -> None:
    c.execute("INSERT INTO truth_added (value) VALUES (:value)", value=7)
    c.rollback()


def integrity(c: Counting) -> None:
    c.execute("INSERT INTO truth (number) VALUES (:number)", number=1)


def deferred(c: Counting) -> None:
    c.execute("INSERT INTO truth_child (parent) VALUES (:parent)", parent=-1)
    c.commit()


def timeout(c: Counting) -> None:
    c.execute("SET LOCAL statement_timeout = 20")
    c.execute("SELECT pg_sleep(10) FROM truth")


def division(c: Counting) -> None:
    # Not before it runs: a statement that fails while it is planned is not in the server's log.
    c.execute("SELECT 1 / (count(*) - count(*)) FROM truth")


def terminate(c: Counting) -> None:
    c.execute("SELECT pg_terminate_backend(pg_backend_pid()) FROM truth")


SCENARIOS: dict[str, Callable[[Counting], None]] = {
    scenario.__name__: scenario
    for scenario in (select, insert, several, batch, roll_back, integrity, deferred, timeout, division, terminate)
}


def lock(c: Counting, number: int) -> None:
    """One half of a deadlock: the rows in the order of ``number``, then in the other one."""
    c.execute("UPDATE truth SET number = number WHERE number = :number", number=number)
