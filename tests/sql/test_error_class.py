"""What went wrong has one name on every driver, and each failure is counted once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from otel_cc.metrics.catalogue import BOUNDS
from otel_cc.sql.error_class import CLASSES, error_class
from tests.sql.conftest import Database, Driver, Telemetry, every_driver, every_postgres_driver

Connect = Callable[..., Database]
Start = Callable[..., Telemetry]
LABELS = ("db.operation.name", "db.error.class")


def test_there_are_as_many_classes_as_the_catalogue_says() -> None:
    assert len(set(CLASSES)) == BOUNDS["db.error.class"]


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("40P01", "deadlock"),
        ("40001", "serialization"),
        ("57014", "timeout"),
        ("55P03", "timeout"),
        ("25P04", "timeout"),
        ("23505", "integrity"),
        ("23503", "integrity"),
        ("08006", "connection"),
        ("57P01", "connection"),
        ("53300", "connection"),
        ("28P01", "connection"),
        ("42601", "programming"),
        ("22012", "programming"),
        ("25P02", "programming"),
        ("0A000", "programming"),
        ("53100", "other"),
        ("XX000", "other"),
        ("P0001", "other"),
        ("?", "other"),
    ],
)
def test_the_state_decides(state: str, found: str) -> None:
    assert error_class(OSError(), state) == found


class DatabaseError(Exception):
    """As PEP 249 names them."""


class OperationalError(DatabaseError):
    pass


class IntegrityError(DatabaseError):
    pass


class InterfaceError(Exception):
    pass


class UniqueViolation(IntegrityError):
    pass


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OperationalError("lost"), "connection"),
        (UniqueViolation("twice"), "integrity"),
        (InterfaceError("cursor already closed"), "connection"),
        (InterfaceError("the server expects 1 argument"), "programming"),
        (DatabaseError("server closed the connection unexpectedly"), "connection"),
        (DatabaseError("no idea"), "other"),
        (ConnectionRefusedError(), "connection"),
        (TimeoutError(), "timeout"),
        (TypeError(), "programming"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (RuntimeError(), "other"),
    ],
)
def test_without_a_state_the_exception_decides(error: BaseException, found: str) -> None:
    assert error_class(error, None) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (1213, "deadlock"),
        (1205, "timeout"),
        (3024, "timeout"),
        (1317, "cancelled"),
        (1040, "connection"),
        (1054, "programming"),
        (2013, "connection"),
        (1114, "other"),
    ],
)
@pytest.mark.parametrize("state", [None, "40001"])
def test_mysql_is_known_by_its_number(code: int, state: str | None, found: str) -> None:
    kind = type("OperationalError", (OperationalError,), {"__module__": "pymysql.err"})
    assert error_class(kind(code, "text"), state) == found


def test_the_same_number_of_another_database_is_not_mysqls() -> None:
    # 1205 is a deadlock of SQL Server.
    assert error_class(OperationalError(1205, "text"), None) == "connection"


@pytest.mark.parametrize("has_code", [True, False])
def test_sqlite_is_known_by_its_code_or_before_python_3_11_by_its_text(has_code: bool) -> None:
    def outcome(work: Callable[[], Any]) -> str:
        with pytest.raises(sqlite3.Error) as raised:
            work()
        error: Any = raised.value
        return error_class(error if has_code else type(error)(str(error)), None)

    first = sqlite3.connect("file:shared?mode=memory&cache=shared", uri=True)
    second = sqlite3.connect("file:shared?mode=memory&cache=shared", uri=True, timeout=0)
    first.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    first.execute("INSERT INTO t VALUES (1)")
    second_reads: Callable[[], Any] = lambda: second.execute("SELECT * FROM t")  # noqa: E731
    assert outcome(second_reads) == "timeout"
    first.commit()
    assert outcome(lambda: first.execute("INSERT INTO t VALUES (1)")) == "integrity"
    assert outcome(lambda: first.execute("SELEC")) == "programming"
    assert outcome(lambda: first.execute("SELECT * FROM nowhere")) == "programming"
    assert outcome(lambda: sqlite3.connect("/nowhere/at/all.db")) == "connection"
    second.close()
    first.close()
    assert outcome(lambda: first.execute("SELECT 1")) in ("connection", "programming")


FAILURES = {
    "integrity": "INSERT INTO classes VALUES (1)",
    "programming": "SELECT * FROM nowhere",
    "timeout": "SELECT pg_sleep(30)",
    "connection": "SELECT pg_terminate_backend(pg_backend_pid())",
}


@every_driver
@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("producers", ["own", "contrib"])
def test_a_failed_statement_is_counted_once_in_its_class(
    producers: str, kind: str, driver: Driver, telemetry: Start, database: Connect
) -> None:
    if not driver.on_postgres and "pg_" in FAILURES[kind]:
        return
    recorded = telemetry(producers)
    connected = database(driver)

    def work(connection: Any) -> None:
        connection.execute(sa.text("CREATE TEMPORARY TABLE classes (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO classes VALUES (1)"))
        if kind == "timeout":
            connection.execute(sa.text("SET LOCAL statement_timeout = '100ms'"))
        connection.execute(sa.text(FAILURES[kind]))

    with recorded.request(), pytest.raises(sa.exc.DBAPIError):
        connected.run(work)
    operation = FAILURES[kind].split()[0]
    assert recorded.numbers("db.client.errors", *LABELS) == {(operation, kind): 1}
    failed = [s for s in recorded.ended if s.status.status_code.name == "ERROR" and s.kind.name == "CLIENT"]
    assert len(failed) == 1
    if producers == "own":
        (point,) = recorded.points("db.client.errors")
        assert list(point.attributes) == [
            *("db.system.name", "db.namespace", "db.operation.name", "db.error.class", "error.type")
        ]
        assert point.attributes["error.type"] == failed[0].attributes["error.type"]


@every_postgres_driver
def test_two_writers_that_cannot_be_serialized(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected, other = database(driver), database(Driver("psycopg2", False))
    other.execute("DROP TABLE IF EXISTS counters")
    other.execute("CREATE TABLE counters AS SELECT 0 AS n")

    def work(connection: Any) -> None:
        connection.execute(sa.text("SELECT n FROM counters")).all()
        other.execute("UPDATE counters SET n = 1")
        connection.execute(sa.text("UPDATE counters SET n = 2"))

    with pytest.raises(sa.exc.DBAPIError):
        connected.run(work, isolation_level="SERIALIZABLE")
    assert recorded.numbers("db.client.errors", *LABELS) == {("UPDATE", "serialization"): 1}


@every_postgres_driver
def test_a_lock_that_is_not_had_in_time(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected, other = database(driver), database(Driver("psycopg2", False))
    other.execute("DROP TABLE IF EXISTS locked")
    other.execute("CREATE TABLE locked AS SELECT 0 AS n")
    with other.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE locked"))

        def work(connection: Any) -> None:
            connection.execute(sa.text("SET LOCAL lock_timeout = '20ms'"))
            connection.execute(sa.text("SELECT n FROM locked"))

        with pytest.raises(sa.exc.DBAPIError):
            connected.run(work)
    assert recorded.numbers("db.client.errors", *LABELS) == {("SELECT", "timeout"): 1}


def test_nothing_is_counted_while_instrumentation_is_suppressed_or_after_its_end(
    telemetry: Start, database: Connect
) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    from otel_cc.sql.instrumentor import SQLAlchemyInstrumentor

    recorded = telemetry()
    connected = database(Driver("psycopg2", False))
    with suppress_instrumentation(), pytest.raises(sa.exc.DBAPIError):
        connected.execute("SELECT nothing")
    SQLAlchemyInstrumentor().uninstrument()
    with pytest.raises(sa.exc.DBAPIError):
        connected.execute("SELECT nothing")
    assert recorded.numbers("db.client.errors", *LABELS) == {}
