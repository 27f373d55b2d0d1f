"""COMMIT, ROLLBACK and CONNECT: each that the server saw is measured, and what failed is one span and one count."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.ext.asyncio import create_async_engine

from otel_cc.local import postgres as local_postgres
from otel_cc.local.process import Processes, free_port
from tests.sql.conftest import VERSION, Database, Driver, Telemetry, every_driver, every_postgres_driver
from tests.sql.test_engine import REQUEST, about, span

Connect = Callable[..., Database]
Start = Callable[..., Telemetry]

SELECT = sa.text("SELECT n FROM ends")
INSERT = sa.text("INSERT INTO ends VALUES (1)")


def counts(points: list[Any]) -> dict[str, int]:
    """How many were measured of each operation."""
    return {point.attributes["db.operation.name"]: point.count for point in points}


def seen(connected: Database) -> dict[str, int]:
    """How many the server saw."""
    found: dict[str, int] = {}
    for sql in connected.received():
        word = sql.rstrip(";").strip()
        if word in ("COMMIT", "ROLLBACK"):
            found[word] = found.get(word, 0) + 1
    return found


def prepared(connected: Database, recorded: Telemetry) -> None:
    """A table, and nothing measured of how it was made."""
    with suppress_instrumentation():
        connected.execute("DROP TABLE IF EXISTS ends")
        connected.execute("CREATE TABLE ends (n INTEGER)")
    connected.forget()
    recorded.clear()


@every_driver
def test_what_the_server_saw_is_what_is_counted(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    prepared(connected, recorded)

    def fails(connection: Any) -> None:
        connection.execute(INSERT)
        raise KeyError

    def twice(connection: Any) -> None:
        if VERSION >= (2, 0):
            connection.execute(INSERT)
            connection.commit()
        connection.execute(SELECT).all()

    with recorded.request():
        connected.run(lambda connection: connection.execute(SELECT).all())
        connected.run(lambda connection: connection.execute(INSERT) and None)
        connected.run(lambda _: None)
        with pytest.raises(KeyError):
            connected.run(fails)
        connected.run(twice, begin=False)
        connected.run(lambda connection: connection.execute(SELECT).all(), begin=False)
        connected.run(lambda connection: connection.execute(SELECT).all(), isolation_level="AUTOCOMMIT")
    expected = seen(connected)
    # Exemplars are in one collection only.
    ends = recorded.durations("COMMIT", "ROLLBACK")
    assert counts(ends) == expected
    assert set(expected) == {"COMMIT", "ROLLBACK"}
    # No spans of them.
    assert not {"COMMIT", "ROLLBACK"} & {name.split()[0] for name in recorded.names()}
    (commits,) = [point for point in ends if point.attributes["db.operation.name"] == "COMMIT"]
    assert commits.attributes == {**about(connected), "db.operation.name": "COMMIT"}
    # They lead to what they belong to.
    (request,) = [s for s in recorded.ended if s.name == "request"]
    assert {exemplar.span_id for exemplar in commits.exemplars} == {request.context.span_id}


@every_driver
def test_what_sqlalchemy_asks_a_new_server_is_not_the_applications(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    connected.run(lambda _: None)
    assert recorded.numbers("db.client.operation.duration", "db.operation.name") == {"CONNECT": 1}
    assert recorded.numbers("db.client.rows", "db.operation.name") == {}


@every_postgres_driver
def test_a_commit_that_fails_is_one_span_and_one_count(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with suppress_instrumentation():
        connected.execute("DROP TABLE IF EXISTS children")
        connected.execute("DROP TABLE IF EXISTS parents")
        connected.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connected.execute("CREATE TABLE children (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
    recorded.clear()

    def work(connection: Any) -> None:
        transaction = connection.begin()
        connection.execute(sa.text("INSERT INTO children VALUES (1)"))
        transaction.commit()

    # Not by ``engine.begin()``: that of SQLAlchemy 1.4 for asyncio loses its connection when it cannot commit.
    with recorded.request(), pytest.raises(sa.exc.IntegrityError):
        connected.run(work, begin=False)
    error = {
        "psycopg2": "psycopg2.errors.ForeignKeyViolation",
        "psycopg": "psycopg.errors.ForeignKeyViolation",
        "asyncpg": "asyncpg.exceptions.ForeignKeyViolationError",
    }[driver.name]
    failed = span(connected, "COMMIT", "", error=error, state="23503")
    del failed["attributes"]["db.query.text"]
    assert recorded.tree() == [REQUEST, span(connected, "INSERT", "INSERT INTO children VALUES (1)"), failed]
    (point,) = recorded.durations("COMMIT")
    assert point.attributes == {**about(connected), "db.operation.name": "COMMIT", "error.type": error}
    assert point.count == 1
    assert [e.span_id for e in point.exemplars] == [recorded.statements()[-1].context.span_id]
    assert recorded.numbers("db.client.errors", "db.operation.name", "db.error.class", "error.type") == {
        ("COMMIT", "integrity", error): 1
    }


@every_postgres_driver
def test_a_rollback_on_a_lost_connection_is_one_failure(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    killer = database(Driver("psycopg2", False))

    def work(connection: Any) -> None:
        transaction = connection.begin()
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
        with suppress_instrumentation():
            killer.execute(f"SELECT pg_terminate_backend({pid}, 30000)")
        transaction.rollback()

    with recorded.request(), pytest.raises(sa.exc.DBAPIError):
        connected.run(work, begin=False)
    assert recorded.numbers("db.client.errors", "db.operation.name", "db.error.class") == {
        ("ROLLBACK", "connection"): 1
    }
    failed = [s for s in recorded.statements() if s.status.status_code.name == "ERROR"]
    assert [s.name for s in failed] == ["ROLLBACK shop"]


def test_savepoints_are_statements(telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(Driver("psycopg2", False))

    def work(connection: Any) -> None:
        connection.begin_nested().commit()
        connection.begin_nested().rollback()

    connected.run(work)
    assert counts(recorded.points("db.client.operation.duration")) == {
        "CONNECT": 1,
        "SAVEPOINT": 2,
        "RELEASE": 1,
        # To the savepoint.
        "ROLLBACK": 1,
        "COMMIT": 1,
    }


@pytest.fixture(scope="module")
def two_phases(servers: Processes) -> local_postgres.Postgres:
    """A server that keeps prepared transactions."""
    return local_postgres.start(servers, name="postgresql-two-phases", config={"max_prepared_transactions": "4"})


@pytest.mark.parametrize("driver", ["psycopg2", *(["psycopg"] if VERSION >= (2, 0) else [])])
def test_two_phase_commit(driver: str, telemetry: Start, two_phases: local_postgres.Postgres) -> None:
    recorded = telemetry()
    engine = sa.create_engine(two_phases.sqlalchemy(driver))
    for end in ("commit", "rollback"):
        with engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(sa.text("SELECT 1"))
            transaction.prepare()
            getattr(transaction, end)()
    engine.dispose()
    ends = recorded.durations("PREPARE", "COMMIT", "ROLLBACK")
    # SQLAlchemy 1.4 does it by statements, and rolls back what it begins after each of them.
    assert counts(ends) == {"PREPARE": 2, "COMMIT": 1, "ROLLBACK": 1 if VERSION >= (2, 0) else 3}


@every_driver
def test_an_opened_connection_is_one_span_and_one_duration(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request():
        connected.run(lambda c: [c.execute(sa.text("SELECT 1 AS answer")).all() for _ in range(2)])
    opened = span(connected, "CONNECT", "")
    del opened["attributes"]["db.query.text"]
    assert recorded.tree(connects=True) == [
        REQUEST,
        opened,
        *[span(connected, "SELECT", "SELECT 1 AS answer")] * 2,
    ]
    (point,) = recorded.durations("CONNECT")
    assert point.attributes == {**about(connected), "db.operation.name": "CONNECT"}
    (connect,) = [s for s in recorded.ended if s.name.startswith("CONNECT")]
    assert point.sum == pytest.approx((connect.end_time - connect.start_time) / 1e9, abs=1e-6)
    assert [exemplar.span_id for exemplar in point.exemplars] == [connect.context.span_id]
    assert recorded.numbers("db.client.errors", "db.operation.name") == {}


@every_driver
@pytest.mark.parametrize("reason", ["nobody listens", "wrong password"])
@pytest.mark.parametrize("producers", ["own", "contrib"])
def test_a_connection_that_cannot_be_opened_is_counted_once(
    producers: str, reason: str, driver: Driver, telemetry: Start, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    recorded = telemetry(producers)
    url = f"sqlite+{driver.name}:///{tmp_path / 'no' / 'folder.db'}"
    if driver.on_postgres:
        right = sa.engine.make_url(request.getfixturevalue("postgres").sqlalchemy(driver.name))
        wrong = right.set(port=free_port()) if reason == "nobody listens" else right.set(password="wrong")
        url = wrong.render_as_string(hide_password=False)
    elif reason == "wrong password":
        return
    threads = set(threading.enumerate())
    engine = create_async_engine(url) if driver.awaits else sa.create_engine(url)

    async def connect() -> None:
        try:
            await engine.connect()
        finally:
            await engine.dispose()
            # That of aiosqlite still wants to tell the loop.
            while not set(threading.enumerate()) <= threads:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    # SQLAlchemy does not translate everything that asyncpg says before it is connected.
    with recorded.request(), pytest.raises((sa.exc.DBAPIError, OSError, asyncpg.PostgresError)):
        asyncio.run(connect()) if driver.awaits else engine.connect()
    engine.sync_engine.dispose() if driver.awaits else engine.dispose()
    assert recorded.numbers("db.client.errors", "db.operation.name", "db.error.class") == {("CONNECT", "connection"): 1}
    if producers == "contrib":
        return
    (failed,) = [s for s in recorded.ended if s.kind.name == "CLIENT"]
    assert failed.name.startswith("CONNECT ")
    assert failed.status.status_code.name == "ERROR"
    assert failed.status.description is None
    (point,) = recorded.durations("CONNECT")
    assert point.count == 1
    assert point.attributes["error.type"] == failed.attributes["error.type"]


@every_driver
@pytest.mark.parametrize("producers", ["own", "contrib"])
def test_rows_are_counted_where_the_driver_knows_them(
    producers: str, driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry(producers)
    connected = database(driver)
    prepared(connected, recorded)

    def work(connection: Any) -> list[int]:
        numbers = [connection.execute(INSERT).rowcount for _ in range(5)]
        connection.execute(sa.text("UPDATE ends SET n = 2"))
        assert len(connection.execute(sa.text("SELECT n FROM ends")).all()) == 5
        connection.execute(sa.text("SELECT n FROM ends WHERE n = 7")).all()
        connection.execute(sa.text("DELETE FROM ends WHERE n = 2"))
        return numbers

    assert connected.run(work) == [1] * 5
    # SQLite finds rows while they are fetched.
    selected = {"SELECT": 5} if driver.on_postgres else {}
    assert recorded.numbers("db.client.rows", "db.operation.name") == {
        "INSERT": 5,
        "UPDATE": 5,
        "DELETE": 5,
        **selected,
    }


def test_a_number_of_rows_that_the_driver_does_not_know_is_none(telemetry: Start, database: Connect) -> None:
    """As PyMySQL's unbuffered cursors say it: the encoder would leave out the whole metric."""

    class Cursor(sqlite3.Cursor):
        rowcount = 2**64 - 1  # type: ignore[assignment]  # a property in the base class

    class Connection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(Cursor)

    recorded = telemetry()
    connected = database(Driver("pysqlite", False), connect_args={"factory": Connection})
    connected.execute("SELECT 1")
    assert connected.run(lambda connection: connection.execute(sa.text("SELECT 1")).rowcount) == 2**64 - 1
    assert recorded.numbers("db.client.rows", "db.operation.name") == {}


# The fiftieth row cannot be computed.
BROKEN_ROW = {
    True: "SELECT 1 / (50 - n) FROM generate_series(1, 100) AS n",
    False: "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 100) "
    "SELECT abs(CASE WHEN n = 50 THEN -9223372036854775807 - 1 ELSE n END) FROM s",
}


@every_driver
@pytest.mark.parametrize("producers", ["own", "contrib"])
def test_a_failed_fetch_is_one_failure(producers: str, driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry(producers)
    connected = database(driver)
    statement = BROKEN_ROW[driver.on_postgres]

    def work(connection: Any) -> None:
        # asyncpg fetches the first fifty in execute(), and its own exception comes through.
        with pytest.raises((sa.exc.DBAPIError, asyncpg.DivisionByZeroError)):
            connection.execution_options(yield_per=10).execute(sa.text(statement)).all()

    with recorded.request():
        connected.run(work)
    # SQLAlchemy 1.4 tells of it only by events of the engine, which are slow.
    told = {"FETCH": 1} if VERSION >= (2, 0) else {}
    assert recorded.numbers("db.client.errors", "db.operation.name") == told
    if producers == "own" and told:
        executed = statement.split()[0]
        assert [s.name.split()[0] for s in recorded.statements()] == [executed, "FETCH"]
        assert recorded.numbers("db.client.operation.duration", "db.operation.name").keys() - {"CONNECT"} <= {
            *(executed, "COMMIT", "ROLLBACK")
        }
        (failed,) = [s for s in recorded.ended if s.status.status_code.name == "ERROR"]
        assert failed.attributes["db.query.text"] == statement
        (point,) = recorded.points("db.client.errors")
        assert point.attributes["error.type"] == failed.attributes["error.type"]


def test_what_a_listener_of_the_applications_raises_is_no_failure(telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(Driver("pysqlite", False))

    def refuses(*_: Any) -> None:
        raise ValueError("not this one")

    sa.event.listen(connected.sync_engine, "after_cursor_execute", refuses)
    with pytest.raises(ValueError, match="not this one"):
        connected.execute("SELECT 1")
    assert recorded.points("db.client.errors") == []


@every_driver
def test_in_contrib_mode_there_are_no_durations(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry("contrib")
    connected = database(driver)
    prepared(connected, recorded)
    connected.run(lambda connection: connection.execute(INSERT) and None)
    assert recorded.points("db.client.operation.duration") == []
    assert not [s for s in recorded.ended if "otel_cc" in s.instrumentation_scope.name]


@every_driver
def test_nothing_is_recorded_while_instrumentation_is_suppressed(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    prepared(connected, recorded)
    with suppress_instrumentation():
        connected.run(lambda connection: connection.execute(INSERT) and None)
    assert recorded.points("db.client.operation.duration") == []
    assert recorded.ended == []
