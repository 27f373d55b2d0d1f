"""One comment and one span for each statement, on every driver, with everything that SQLAlchemy can do to a statement."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext, TraceFlags, TraceState
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, declarative_base

from otel_cc import guard
from otel_cc.sql.commenter import Commenter
from otel_cc.sql.switches import switches
from tests.sql.conftest import (
    OPERATIONS,
    POSTGRES_DRIVERS,
    TRACE_ID,
    VERSION,
    Database,
    Driver,
    Telemetry,
    bare,
    comments,
    every_driver,
    every_postgres_driver,
)

Connect = Callable[..., Database]
Start = Callable[..., Telemetry]

every_async_driver = pytest.mark.parametrize("driver", [d for d in POSTGRES_DRIVERS if d.awaits], ids=str)
PSYCOPG2 = Driver("psycopg2", False)
ASYNCPG = Driver("asyncpg", True)


def about(database: Database) -> dict[str, Any]:
    """The attributes of every span of an engine."""
    url = database.sync_engine.url
    if not database.driver.on_postgres:
        return {"db.system.name": "sqlite", "db.namespace": url.database}
    return {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "server.address": "127.0.0.1",
        "server.port": url.port,
    }


def span(database: Database, operation: str, text: str, **attributes: Any) -> dict[str, Any]:
    """A statement's span as it should be; ``error`` and ``state`` make it one of a failure."""
    error, state = attributes.pop("error", None), attributes.pop("state", None)
    found = {**about(database), "db.operation.name": operation, "db.query.text": text, "request.id": "order-42"}
    if error is not None:
        found["error.type"] = error
    if state is not None:
        found["db.response.status_code"] = state
    return {
        "name": f"{operation} {about(database)['db.namespace']}",
        "kind": "CLIENT",
        "parent": "request",
        "status": "UNSET" if error is None else "ERROR",
        "attributes": {**found, **attributes},
    }


REQUEST = {"name": "request", "kind": "SERVER", "parent": None, "status": "UNSET", "attributes": {}}


def parents(recorded: Telemetry) -> list[str]:
    """The trace context of each statement's span, as a comment should have it."""
    return [
        f"00-{s.context.trace_id:032x}-{s.context.span_id:016x}-{s.context.trace_flags:02x}"
        for s in recorded.statements()
    ]


def execute(connection: Any, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(sa.text(sql), parameters)]


@every_driver
def test_each_statement_has_one_span_and_one_comment_that_names_it(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request(route="/items/{id}", framework="fastapi:0.115"):
        connected.run(lambda connection: [execute(connection, f"SELECT {n} AS answer") for n in (1, 2)])
    assert recorded.tree() == [
        REQUEST,
        span(connected, "SELECT", "SELECT 1 AS answer"),
        span(connected, "SELECT", "SELECT 2 AS answer"),
    ]
    received = connected.received("AS answer")
    assert [bare(sql) for sql in received] == ["SELECT 1 AS answer", "SELECT 2 AS answer"]
    assert [comments(sql) for sql in received] == [
        [
            {
                "db_driver": driver.name,
                "framework": "fastapi:0.115",
                "request_id": "order-42",
                "route": "/items/{id}",
                "traceparent": parent,
            }
        ]
        for parent in parents(recorded)
    ]
    assert all(sql.startswith("/*db_driver=") for sql in received)


@every_async_driver
def test_requests_that_run_at_the_same_time_keep_their_ids(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    async def request(name: str, number: int) -> None:
        with recorded.request(request_id=name, trace_id=number):
            async with connected.engine.begin() as connection:
                for _ in range(3):
                    await connection.execute(sa.text(f"SELECT '{name}' AS who"))
                    await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*(request(f"order-{number}", number) for number in range(1, 6)))

    connected.wait(both())
    received = connected.received("AS who")
    assert len(received) == 15
    for sql in received:
        (found,) = comments(sql)
        assert f"'{found['request_id']}' AS who" in sql
        assert int(found["traceparent"].split("-")[1], 16) == int(found["request_id"].split("-")[1])
    assert len(recorded.statements()) == 15


@every_driver
def test_all_statements_of_a_transaction_carry_the_same_request_id(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)

    def work(connection: Any) -> None:
        execute(connection, "SELECT id FROM rows")
        connection.execute(sa.text("INSERT INTO rows VALUES (:id)"), {"id": 1})
        inner = connection.begin_nested()
        connection.execute(sa.text("UPDATE rows SET id = :id"), {"id": 2})
        inner.rollback()
        inner = connection.begin_nested()
        connection.execute(sa.text("UPDATE rows SET id = :id"), {"id": 3})
        inner.commit()
        execute(connection, "WITH picked AS (SELECT id FROM rows) SELECT id FROM picked")
        connection.execute(sa.text("DELETE FROM rows"))

    connected.run(
        lambda connection: connection.execute(sa.text("CREATE TABLE IF NOT EXISTS rows (id INTEGER)")) and None
    )
    connected.run(lambda connection: connection.execute(sa.text("DELETE FROM rows")) and None)
    connected.forget()
    recorded.clear()
    with recorded.request():
        connected.run(work)
    received = [sql for sql in connected.received() if not bare(sql).startswith(("BEGIN", "COMMIT", ";"))]
    operations = [bare(sql).split()[0] for sql in received]
    assert operations == [
        *("SELECT", "INSERT"),
        *("SAVEPOINT", "UPDATE", "ROLLBACK"),
        *("SAVEPOINT", "UPDATE", "RELEASE"),
        *("WITH", "DELETE"),
    ]
    assert recorded.names() == [f"{operation} {about(connected)['db.namespace']}" for operation in operations]
    by_operation = [
        (operation, [found["request_id"] for found in comments(sql)])
        for operation, sql in zip(operations, received, strict=True)
    ]
    assert by_operation == [
        (operation, [] if operation in ("SAVEPOINT", "ROLLBACK", "RELEASE") else ["order-42"])
        for operation in operations
    ]


@every_driver
def test_outside_of_a_request_there_is_a_span_but_no_comment(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    assert connected.execute("SELECT 7 AS answer") == [(7,)]
    assert connected.received("AS answer") == ["SELECT 7 AS answer"]
    expected = span(connected, "SELECT", "SELECT 7 AS answer")
    del expected["attributes"]["request.id"]
    assert recorded.tree() == [{**expected, "parent": None}]


UTILITIES = [
    "CREATE TEMPORARY TABLE made (id INTEGER)",
    "TRUNCATE made",
    "LOCK TABLE made IN SHARE MODE",
    "COMMENT ON TABLE made IS 'made'",
    "ANALYZE made",
    "SET LOCAL statement_timeout = '1min'",
    "SHOW statement_timeout",
    "EXPLAIN SELECT 1",
    "COPY (SELECT 1) TO '/dev/null'",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH c",
    "CLOSE c",
    "DO $$ BEGIN NULL; END $$",
    "/* before */ SAVEPOINT sa",
]


@every_postgres_driver
def test_utility_statements_are_left_alone(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    def work(connection: Any) -> None:
        for sql in UTILITIES:
            connection.execute(sa.text(sql)).close()

    with recorded.request():
        connected.run(work)
    assert [sql for sql in connected.received() if sql in UTILITIES] == UTILITIES
    assert [s.attributes["db.query.text"] for s in recorded.statements()] == UTILITIES


@every_driver
def test_a_statement_with_a_hint_is_left_alone(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    for sql in ("/*+ SeqScan(x) */ SELECT 1 AS hinted", "SELECT /*+ SeqScan(x) */ 2 AS hinted"):
        with recorded.request():
            connected.execute(sql)
        assert connected.received("hinted")[-1] == sql


@every_driver
def test_an_executemany_is_left_alone_and_is_one_span(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    insert = sa.text("INSERT INTO many VALUES (:id)")

    def work(connection: Any) -> None:
        connection.execute(sa.text("CREATE TEMPORARY TABLE many (id INTEGER)"))
        connected.forget()
        recorded.clear()
        with recorded.request():
            connection.execute(insert, [{"id": 1}, {"id": 2}, {"id": 3}])
            assert execute(connection, "SELECT count(*) FROM many") == [(3,)]

    connected.run(work)
    received = connected.received("INSERT INTO many")
    assert received
    assert [comments(sql) for sql in received] == [[]] * len(received)
    batch, _ = recorded.statements()
    assert batch.name == f"BATCH INSERT {about(connected)['db.namespace']}"
    assert batch.attributes["db.operation.name"] == "BATCH INSERT"
    assert batch.attributes["db.operation.batch.size"] == 3


def table(name: str, *columns: Any) -> Any:
    return sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), *columns)


@every_driver
def test_a_bulk_insert_has_a_comment_where_it_is_one_statement(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver, **({"insertmanyvalues_page_size": 2} if VERSION >= (2, 0) else {}))
    many = table("bulk", sa.Column("name", sa.String))
    insert = many.insert().returning(many.c.id) if VERSION >= (2, 0) else many.insert()

    def work(connection: Any) -> None:
        many.drop(connection, checkfirst=True)
        many.create(connection)
        connected.forget()
        recorded.clear()
        with recorded.request():
            connection.execute(insert, [{"name": f"100% {n}"} for n in range(3)])
            names = execute(connection, "SELECT name FROM bulk ORDER BY id")
            assert names == [("100% 0",), ("100% 1",), ("100% 2",)]

    connected.run(work)
    received = connected.received("INSERT INTO bulk")
    inserts = recorded.statements()[:-1]
    if VERSION >= (2, 0):
        assert [len(comments(sql)) for sql in received] == [1, 1]
        assert [found["traceparent"] for sql in received for found in comments(sql)] == parents(recorded)[:-1]
        assert [s.name.split()[0] for s in inserts] == ["INSERT", "INSERT"]
    else:
        assert [len(comments(sql)) for sql in received] == [0] * len(received)
        assert [s.name.split()[0] for s in inserts] == ["BATCH"]


@every_driver
@pytest.mark.parametrize(
    "key",
    ["suppress_instrumentation", otel_context._SUPPRESS_INSTRUMENTATION_KEY],
    # The value of the second is another one in each process.
    ids=["plain", "opentelemetry"],
)
def test_suppressed_statements_are_left_alone(key: str, driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request():
        token = otel_context.attach(otel_context.set_value(key, True))
        connected.execute("SELECT 1 AS answer")
        otel_context.detach(token)
        with suppress_instrumentation():
            connected.execute("SELECT 2 AS answer")
    assert connected.received("AS answer") == ["SELECT 1 AS answer", "SELECT 2 AS answer"]
    assert recorded.names() == []


PERCENTS: dict[str, Callable[[Any], Any]] = {
    "in a text": lambda c: c.execute(sa.text("SELECT '100%', 7 % 4")),
    "in a text with parameters": lambda c: c.execute(sa.text("SELECT '100%', 7 % :n"), {"n": 4}),
    "in a text without parameters at all": lambda c: c.execution_options(no_parameters=True).execute(
        sa.text("SELECT '100%', 7 % 4")
    ),
    "in an expression": lambda c: c.execute(sa.select(sa.literal("100%"), sa.literal(7) % 4).where(sa.true())),
    "in a LIKE": lambda c: c.execute(sa.text("SELECT 'a' LIKE 'a%' AND 'a' LIKE :like"), {"like": "%a%"}),
    "in the driver's language": lambda c: c.exec_driver_sql("SELECT '100%%', 7 %% 4"),
    "in the driver's language, single": lambda c: c.exec_driver_sql("SELECT '100%', 7 % 4"),
    "in the driver's language without parameters": lambda c: c.exec_driver_sql(
        "SELECT '100%', '%%'", execution_options={"no_parameters": True}
    ),
    "like a placeholder": lambda c: c.exec_driver_sql("SELECT '%s'"),
    "like a named placeholder": lambda c: c.exec_driver_sql("SELECT '%(name)s'"),
    "nowhere, without parameters at all": lambda c: c.execution_options(no_parameters=True).execute(
        sa.text("SELECT 7")
    ),
}


def outcome(connected: Database, work: Callable[[Any], Any]) -> Any:
    """The rows, or what went wrong."""

    def fetch(connection: Any) -> Any:
        try:
            return [tuple(row) for row in work(connection)]
        except Exception as error:
            # The rest of the text shows the statement.
            return type(error), str(error.__cause__).partition("\n")[0]

    return connected.run(fetch, begin=False)


@every_driver
def test_a_percent_sign_means_the_same_with_a_comment_as_without(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    worked = set()
    for case, work in PERCENTS.items():
        without = outcome(connected, work)
        connected.forget()
        with recorded.request(route="/items/{id}"):
            assert (case, outcome(connected, work)) == (case, without)
        if isinstance(without, list):
            worked.add(case)
            (received,) = connected.received("SELECT")
            assert comments(received)[0]["route"] == "/items/{id}"
    assert worked >= {case for case in PERCENTS if "driver" not in case and "at all" not in case and "like" not in case}
    assert "nowhere, without parameters at all" in worked


@every_postgres_driver
def test_a_server_side_cursor_has_one_comment(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    query = sa.text("SELECT n FROM generate_series(1, 500) AS n")

    def work(connection: Any) -> int:
        return sum(n for (n,) in connection.execution_options(stream_results=True, max_row_buffer=50).execute(query))

    with recorded.request():
        assert connected.run(work) == 125250
    (received,) = connected.received("generate_series")
    assert [found["request_id"] for found in comments(received)] == ["order-42"]
    assert len(recorded.statements()) == 1
    assert received.startswith("/*" if driver.name == "asyncpg" else "DECLARE")


@every_async_driver
def test_a_stream_of_an_async_engine_has_one_comment(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    async def work() -> int:
        async with connected.engine.connect() as connection:
            rows = await connection.stream(sa.text("SELECT n FROM generate_series(1, 500) AS n"))
            return sum([n async for (n,) in rows])

    with recorded.request():
        assert connected.wait(work()) == 125250
    (received,) = connected.received("generate_series")
    assert len(comments(received)) == 1
    assert len(recorded.statements()) == 1


@every_postgres_driver
def test_a_declared_cursor_has_no_comment_on_servers_that_tell_utilities_apart_by_their_text(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver)
    connected.execute("SELECT 1")
    connected.sync_engine.dialect.server_version_info = (15, 18)
    query = "SELECT n FROM generate_series(1, 2) AS n"
    with recorded.request():
        connected.execute(query, stream_results=True)
        connected.execute(query)
    assert [len(comments(sql)) for sql in connected.received("generate_series")] == [
        1 if driver.name == "asyncpg" else 0,
        1,
    ]


@every_driver
def test_the_statements_of_the_orm_have_comments(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    base: Any = declarative_base()

    class Item(base):  # type: ignore[misc]
        __tablename__ = "orm_items"
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String)

    def work(connection: Any) -> list[str]:
        base.metadata.drop_all(connection)
        base.metadata.create_all(connection)
        connected.forget()
        recorded.clear()
        with recorded.request(), Session(bind=connection) as session:
            session.add(Item(name="100%"))
            session.flush()
            item = session.execute(sa.select(Item)).scalars().one()
            item.name = "one"
            session.flush()
            session.expire(item)
            names = [item.name]
            session.delete(item)
            session.flush()
            return names

    assert connected.run(work) == ["one"]
    received = connected.received("orm_items")
    assert [bare(sql).split()[0] for sql in received] == ["INSERT", "SELECT", "UPDATE", "SELECT", "DELETE"]
    assert [found["traceparent"] for sql in received for found in comments(sql)] == parents(recorded)


@every_async_driver
def test_the_statements_of_the_async_orm_have_comments(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    async def work() -> Any:
        async with AsyncSession(connected.engine) as session:
            return (await session.execute(sa.text("SELECT 'orm'"))).scalar_one()

    with recorded.request():
        assert connected.wait(work()) == "orm"
    (received,) = connected.received("'orm'")
    assert [found["traceparent"] for found in comments(received)] == parents(recorded)


@every_driver
def test_autocommit_makes_no_difference(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request():
        found = connected.run(
            lambda connection: execute(connection, "SELECT 1 AS answer"), begin=False, isolation_level="AUTOCOMMIT"
        )
    assert found == [(1,)]
    (received,) = connected.received("AS answer")
    assert [found["traceparent"] for found in comments(received)] == parents(recorded)


@every_driver
def test_what_sqlalchemy_asks_a_new_server_is_not_the_applications(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry()
    connected = database(driver, pool_pre_ping=True)
    with recorded.request():
        for _ in range(2):
            connected.execute("SELECT 1 AS first")
    assert recorded.tree() == [REQUEST, *[span(connected, "SELECT", "SELECT 1 AS first")] * 2]
    received = connected.received()
    assert [sql for sql in received if comments(sql)] == [sql for sql in received if "AS first" in sql]
    if driver.on_postgres:
        assert any("version()" in sql for sql in received)


@every_async_driver
def test_nothing_is_missing_when_many_tasks_connect_first(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    async def work() -> None:
        async with connected.engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1 AS first"))

    async def many() -> None:
        await asyncio.gather(*(work() for _ in range(5)))

    with recorded.request():
        connected.wait(many())
    assert recorded.names() == ["SELECT shop"] * 5
    assert [len(comments(sql)) for sql in connected.received("AS first")] == [1] * 5


@pytest.mark.parametrize("driver", POSTGRES_DRIVERS, ids=str)
def test_the_driver_has_the_name_that_budgets_and_comments_go_by(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    telemetry()
    assert database(driver).sync_engine.dialect.driver == driver.name


ERRORS: dict[str, tuple[str, str, dict[str, str]]] = {
    "integrity": (
        "INSERT INTO unique_rows VALUES (1)",
        "23505",
        {
            "psycopg2": "psycopg2.errors.UniqueViolation",
            "psycopg": "psycopg.errors.UniqueViolation",
            "asyncpg": "asyncpg.exceptions.UniqueViolationError",
            "pysqlite": "sqlite3.IntegrityError",
            "aiosqlite": "sqlite3.IntegrityError",
        },
    ),
    "syntax": (
        "SELECT FROM WHERE",
        "42601",
        {
            "psycopg2": "psycopg2.errors.SyntaxError",
            "psycopg": "psycopg.errors.SyntaxError",
            "asyncpg": "asyncpg.exceptions.PostgresSyntaxError",
            "pysqlite": "sqlite3.OperationalError",
            "aiosqlite": "sqlite3.OperationalError",
        },
    ),
    "timeout": (
        "SELECT pg_sleep(30)",
        "57014",
        {
            "psycopg2": "psycopg2.errors.QueryCanceled",
            "psycopg": "psycopg.errors.QueryCanceled",
            "asyncpg": "asyncpg.exceptions.QueryCanceledError",
        },
    ),
}


@every_driver
@pytest.mark.parametrize("case", ERRORS)
def test_a_failed_statement_is_one_span_that_says_how_it_failed(
    case: str, driver: Driver, telemetry: Start, database: Connect
) -> None:
    sql, state, types = ERRORS[case]
    if driver.name not in types:
        # SQLite has neither timeouts nor connections.
        assert not driver.on_postgres
        return
    recorded = telemetry()
    connected = database(driver)
    rows = table("unique_rows")

    def work(connection: Any) -> None:
        rows.drop(connection, checkfirst=True)
        rows.create(connection)
        connection.execute(rows.insert(), {"id": 1})
        if case == "timeout":
            connection.execute(sa.text("SET LOCAL statement_timeout = '100ms'"))
        recorded.clear()
        with recorded.request(), pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text(sql))
        # The transaction is over.
        raise KeyError

    with pytest.raises(KeyError):
        connected.run(work)
    sent = span(
        connected,
        sql.split()[0],
        sql,
        error=types[driver.name],
        state=state if driver.on_postgres else None,
    )
    assert recorded.tree() == [REQUEST, sent]
    (failed,) = recorded.statements()
    assert failed.status.description is None
    assert list(failed.events) == []
    errors = [point for point in recorded.durations() if "error.type" in point.attributes]
    assert [point.attributes for point in errors] == [
        {**about(connected), "db.operation.name": sql.split()[0], "error.type": types[driver.name]}
    ]


@every_postgres_driver
def test_a_lost_connection_is_one_failed_span(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request():
        with pytest.raises(sa.exc.DBAPIError):
            connected.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert connected.execute("SELECT 1 AS answer") == [(1,)]
    lost, again = recorded.statements()
    # Each driver has its own opinion of what happened, and not all have a state for it.
    assert lost.attributes["error.type"].startswith(driver.name)
    assert (lost.status.status_code.name, again.status.status_code.name) == ("ERROR", "UNSET")


@every_postgres_driver
def test_of_two_statements_in_a_deadlock_one_fails(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    first = database(driver)
    second = database(driver)
    rows = table("deadlock_rows", sa.Column("n", sa.Integer))

    def prepare(connection: Any) -> None:
        rows.drop(connection, checkfirst=True)
        rows.create(connection)
        for number in (1, 2):
            connection.execute(rows.insert(), {"id": number, "n": 0})

    first.run(prepare)
    second.execute("SELECT 1")
    recorded.clear()
    both = threading.Barrier(2)

    def quarrel(connected: Database, numbers: tuple[int, int]) -> bool:
        def work(connection: Any) -> None:
            connection.execute(sa.text("SET LOCAL deadlock_timeout = '20ms'"))
            for number in numbers:
                connection.execute(rows.update().where(rows.c.id == number).values(n=1))
                if number == numbers[0]:
                    both.wait(60)

        with recorded.request():
            try:
                connected.run(work)
            except sa.exc.DBAPIError:
                return False
        return True

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(quarrel, (first, second), ((1, 2), (2, 1))))
    assert sorted(ends) == [False, True]
    states = [s.attributes.get("db.response.status_code") for s in recorded.statements()]
    assert sorted(states, key=str) == ["40P01", *[None] * 5]


@every_async_driver
def test_a_cancelled_statement_is_one_span(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)

    async def work() -> None:
        async with connected.engine.connect() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(30)"))

    async def cancel() -> None:
        task = asyncio.create_task(work())
        while not connected.received("pg_sleep"):  # noqa: ASYNC110  it happens in another process
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with recorded.request():
        connected.wait(cancel())
    assert recorded.tree() == [
        REQUEST,
        span(connected, "SELECT", "SELECT pg_sleep(30)", error="asyncio.exceptions.CancelledError"),
    ]
    assert len(comments(connected.received("pg_sleep")[0])) == 1


@every_driver
def test_durations_lead_to_the_spans_of_the_statements(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    with recorded.request():
        for _ in range(3):
            connected.execute("SELECT 1 AS answer")
    (point,) = recorded.durations()
    assert point.attributes == {**about(connected), "db.operation.name": "SELECT"}
    assert point.count == 3
    spans = {(s.context.trace_id, s.context.span_id): s for s in recorded.statements()}
    assert point.exemplars
    for exemplar in point.exemplars:
        s = spans[exemplar.trace_id, exemplar.span_id]
        assert 0 < exemplar.value <= (s.end_time - s.start_time) / 1e9
    assert point.sum <= sum(s.end_time - s.start_time for s in spans.values()) / 1e9


@every_driver
@pytest.mark.parametrize("producers", ["own", "contrib", "none"])
def test_comments_are_the_same_whoever_makes_the_spans(
    producers: str, driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry(producers)
    connected = database(driver)
    with recorded.request(route="/"):
        assert connected.execute("SELECT 1 AS answer") == [(1,)]
    (received,) = connected.received("AS answer")
    (found,) = comments(received)
    parent = found.pop("traceparent")
    assert found == {"db_driver": driver.name, "request_id": "order-42", "route": "/"}
    trace_id, span_id = (int(part, 16) for part in parent.split("-")[1:3])
    assert trace_id == TRACE_ID
    linked = [s.name.split()[0] for s in recorded.ended if s.context.span_id == span_id]
    assert linked == ["request" if producers == "none" else "SELECT"]


def test_contrib_makes_its_own_spans_and_we_none(telemetry: Start, database: Connect) -> None:
    recorded = telemetry("contrib")
    connected = database(PSYCOPG2)
    with recorded.request():
        connected.execute("SELECT 1 AS answer")
        connected.execute("SELECT 2 AS answer")
    assert [s.instrumentation_scope.name for s in recorded.ended if "SELECT" in s.name] == [
        "opentelemetry.instrumentation.sqlalchemy"
    ] * 2
    assert recorded.durations() == []


@every_driver
def test_unsampled_requests_are_in_the_comment_without_a_trace(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    recorded = telemetry(sampler=ALWAYS_OFF)
    connected = database(driver)
    with recorded.request():
        connected.execute("SELECT 1 AS answer")
    (received,) = connected.received("AS answer")
    assert comments(received) == [{"db_driver": driver.name, "request_id": "order-42"}]
    assert recorded.ended == []
    (point,) = recorded.durations()
    assert point.count == 1
    assert list(point.exemplars) == []


def test_the_tracestate_comes_along(telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(PSYCOPG2)
    state = TraceState([("vendor", "a%b"), ("ot", "th:8")])
    caller = SpanContext(TRACE_ID, 1, True, TraceFlags(3), state)
    with recorded.request():
        around = trace.set_span_in_context(trace.NonRecordingSpan(caller))
        token = otel_context.attach(around)
        connected.execute("SELECT 1 AS answer")
        otel_context.detach(token)
    ((found,),) = map(comments, connected.received("AS answer"))
    assert found["tracestate"] == "vendor=a%b,ot=th:8"
    assert found["traceparent"].endswith("-03")


@every_driver
@pytest.mark.parametrize("setting", ["off", "auto", "always"])
def test_the_setting_decides_which_statements_have_comments(
    setting: str, driver: Driver, telemetry: Start, database: Connect
) -> None:
    # No statement is slow enough for this budget, however busy the machine is.
    recorded = telemetry(comments=setting, OTEL_CC_SQL_COMMENT_BUDGET="0.000001")
    connected = database(driver)
    with recorded.request():
        for _ in range(3):
            connected.execute("SELECT 1 AS answer")
    wanted = {"off": 0, "auto": 1 if driver == PSYCOPG2 else 0, "always": 1}[setting]
    assert [len(comments(sql)) for sql in connected.received("AS answer")] == [wanted] * 3
    assert len(recorded.statements()) == 3


@every_postgres_driver
def test_in_auto_a_slow_statement_has_its_comment_from_the_second_time_on(
    driver: Driver, telemetry: Start, database: Connect
) -> None:
    # The slow statement is slow enough for this budget, however busy the machine is.
    recorded = telemetry(comments="auto", OTEL_CC_SQL_COMMENT_BUDGET="0.5")
    connected = database(driver)
    with recorded.request():
        # The fastest of some tells what a round trip costs.
        for _ in range(20):
            connected.execute("SELECT 1 AS quick")
        for _ in range(2):
            connected.execute("SELECT pg_sleep(0.2) AS slow")
    assert [len(comments(sql)) for sql in connected.received("AS slow")] == [1 if driver == PSYCOPG2 else 0, 1]


def test_off_and_no_producer_means_that_nothing_is_touched(telemetry: Start, database: Connect) -> None:
    recorded = telemetry("none", comments="off", OTEL_CC_INSTRUMENTATION="contrib")
    connected = database(PSYCOPG2)
    with recorded.request():
        connected.execute("SELECT 1 AS answer")
    assert connected.received("AS answer") == ["SELECT 1 AS answer"]
    assert "do_execute" not in vars(connected.sync_engine.dialect)


def test_an_engine_made_from_another_ones_dialect_is_hooked_once(telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(PSYCOPG2)
    first = connected.sync_engine
    second = sa.engine.Engine(first.pool, first.dialect, first.url)
    with recorded.request(), second.connect() as connection:
        connection.execute(sa.text("SELECT 1 AS answer"))
    assert [len(comments(sql)) for sql in connected.received("AS answer")] == [1]
    assert recorded.names() == ["SELECT shop"]


def test_after_uninstrument_there_are_comments_but_no_spans(telemetry: Start, database: Connect) -> None:
    from otel_cc.sql.instrumentor import SQLAlchemyInstrumentor

    recorded = telemetry()
    connected = database(PSYCOPG2)
    SQLAlchemyInstrumentor().uninstrument()
    assert switches.spans is None
    with recorded.request():
        connected.execute("SELECT 1 AS answer")
    assert [len(comments(sql)) for sql in connected.received("AS answer")] == [1]
    assert recorded.names() == []


def test_contrib_is_gone_after_uninstrument(telemetry: Start, database: Connect) -> None:
    from otel_cc.sql.instrumentor import SQLAlchemyInstrumentor

    recorded = telemetry("contrib")
    SQLAlchemyInstrumentor().uninstrument()
    connected = database(PSYCOPG2)
    with recorded.request():
        connected.execute("SELECT 1 AS answer")
    assert [len(comments(sql)) for sql in connected.received("AS answer")] == [1]
    assert recorded.names() == []


@pytest.mark.parametrize("driver", [d for d in POSTGRES_DRIVERS if d.name != "asyncpg"], ids=str)
def test_a_statement_that_is_an_object_of_the_driver_works(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    sql = import_module(f"{driver.name}.sql")
    statement = sql.SQL("SELECT {}").format(sql.Literal(7))
    with recorded.request():
        found = connected.run(lambda connection: connection.exec_driver_sql(statement).scalar())
    assert found == 7
    assert connected.received("SELECT 7") == ["SELECT 7"]
    sent = span(connected, "OTHER", "")
    del sent["attributes"]["db.query.text"]
    assert recorded.tree() == [REQUEST, sent]


def test_a_long_text_is_cut_in_its_span_but_not_in_its_statement(telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(PSYCOPG2)
    sql = f"SELECT '{'x' * 20_000}' AS answer"
    with recorded.request():
        connected.execute(sql)
    assert bare(connected.received("AS answer")[0]) == sql
    (sent,) = recorded.statements()
    assert sent.attributes["db.query.text"] == sql[:8191] + "…"


PLACES = {"span": "the SQL statement", "comment": "the SQL comment", "duration": "the end of a SQL statement"}


@every_driver
@pytest.mark.parametrize("broken", PLACES)
def test_a_failure_of_ours_is_not_the_applications(
    broken: str, driver: Driver, telemetry: Start, database: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = telemetry()
    monkeypatch.setenv("OTEL_CC_STRICT", "false")
    monkeypatch.setattr(guard, "_seen", set())
    connected = database(driver)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(broken)

    if broken == "span":
        monkeypatch.setattr(switches.spans, "tracer", None)
    elif broken == "comment":
        monkeypatch.setattr(Commenter, "comment", fail)
    else:
        monkeypatch.setattr(switches.spans, "duration", None)
    with recorded.request():
        assert connected.execute("SELECT 1 AS answer") == [(1,)]
    assert [len(comments(sql)) for sql in connected.received("AS answer")] == [1 if broken == "duration" else 0]
    # A span that was started is ended, whatever happens.
    assert recorded.names() == ([] if broken == "span" else [f"SELECT {about(connected)['db.namespace']}"])
    if broken == "duration":
        with recorded.request(), pytest.raises(sa.exc.DBAPIError):
            connected.execute("SELECT nothing")
        assert [s.status.status_code.name for s in recorded.statements()] == ["UNSET", "ERROR"]
    operations = {f"the end of a SQL {operation}" for operation in OPERATIONS}
    assert {place for place in guard._seen if "SQL" in place} - operations == {PLACES[broken]}
