"""What is said of a connection pool is what the server sees of it, whatever happens to the pool."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy import pool as pools
from sqlalchemy.ext.asyncio import AsyncEngine

from otel_cc.local.postgres import Postgres
from otel_cc.local.process import wait_until
from otel_cc.sql import pool as watching
from tests.metrics.collecting import collecting
from tests.sql.conftest import (
    POSTGRES_DRIVERS,
    SQLITE_DRIVERS,
    VERSION,
    Database,
    Driver,
    Telemetry,
    every_postgres_driver,
)

Connect = Callable[..., Database]
Start = Callable[..., Telemetry]

PSYCOPG2 = Driver("psycopg2", False)
every_async_driver = pytest.mark.parametrize("driver", [d for d in POSTGRES_DRIVERS if d.awaits], ids=str)
every_sync_driver = pytest.mark.parametrize("driver", [d for d in POSTGRES_DRIVERS if not d.awaits], ids=str)
SMALL = {"pool_size": 2, "max_overflow": 1}
NAME = "db.client.connection.pool.name"


class Pooled:
    """An engine whose connections the server can tell apart from all others.

    :param name: what the pool and its connections are called
    """

    def __init__(self, recorded: Telemetry, connected: Database, name: str, server: Any) -> None:
        self.recorded = recorded
        self.connected = connected
        self.name = name
        self._server = server
        self._taken: list[Any] = []

    @property
    def engine(self) -> Any:
        return self.connected.engine

    def take(self) -> Any:
        """A connection."""
        awaits = self.connected.driver.awaits
        taken = self.connected.wait(_started(self.engine)) if awaits else self.engine.connect()
        self._taken.append(taken)
        return taken

    def call(self, connection: Any, method: str, *args: Any) -> Any:
        """Call a method of a connection."""
        found = getattr(connection, method)(*args)
        return self.connected.wait(found) if asyncio.iscoroutine(found) else found

    def close(self) -> None:
        """Give all connections back: nothing must be left to be found by the next test."""
        for taken in self._taken:
            if not taken.closed:
                self.call(taken, "close")
        self._taken.clear()

    def dispose(self) -> None:
        self.call(self.engine, "dispose")

    def server(self) -> int:
        """How many connections the server has of it."""
        with self._server.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (self.name,))
            number: int = cursor.fetchone()[0]
        return number

    def read(self, metric: str) -> float | None:
        """The value of a metric of this pool."""
        return self.recorded.numbers(f"db.client.connection.{metric}", NAME).get(self.name)

    def state(self) -> tuple[float, float]:
        """How many connections are used and idle, for us; all of them and no others are there for the server."""
        found = self.recorded.numbers("db.client.connection.count", NAME, "db.client.connection.state")
        used, idle = found[self.name, "used"], found[self.name, "idle"]
        wait_until(lambda: self.server() == used + idle, 30, f"{used + idle} connections, not {self.server()}")
        return used, idle


async def _started(engine: AsyncEngine) -> Any:
    return await engine.connect()


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Any]:
    """A connection that nobody measures."""
    connection = psycopg2.connect(postgres.url)
    connection.autocommit = True
    yield connection
    connection.close()


Make = Callable[..., Pooled]
_numbers = count()


@pytest.fixture
def pooled(telemetry: Start, database: Connect, server: Any) -> Iterator[Make]:
    """``pooled(driver, producers="own", **options_of_create_engine)``"""
    made: list[Pooled] = []

    def make(driver: Driver, producers: str = "own", **options: Any) -> Pooled:
        name = f"pool {next(_numbers)}"
        recorded = telemetry(producers)
        told = {"server_settings": {"application_name": name}}
        options.setdefault("connect_args", told if driver.name == "asyncpg" else {"application_name": name})
        options.setdefault("pool_logging_name", name)
        made.append(Pooled(recorded, database(driver, **options), name, server))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@every_postgres_driver
@pytest.mark.parametrize("producers", ["own", "contrib"])
def test_used_and_idle_connections_are_those_of_the_server(producers: str, driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, producers, **SMALL)
    first = pool.take()
    assert pool.state() == (1, 0)
    pool.call(first, "close")
    assert pool.state() == (0, 1)
    held = [pool.take() for _ in range(3)]
    assert pool.state() == (3, 0)
    # A full pool reads 100 %.
    assert pool.read("max") == 3
    assert pool.read("idle.max") == 2
    for connection in held:
        pool.call(connection, "close")
    assert pool.state() == (0, 2)
    assert pool.read("create_time") == 3
    assert pool.read("use_time") == 4
    assert pool.read("wait_time") == 4
    assert pool.read("timeouts") == 0
    assert pool.read("pending_requests") == 0


def test_an_engine_that_was_never_used_has_nothing_to_report(pooled: Make) -> None:
    pool = pooled(PSYCOPG2)
    assert [pool.read(metric) for metric in ("max", "idle.max", "pending_requests", "timeouts", "use_time")] == [
        None
    ] * 5
    assert pool.recorded.points("db.client.connection.count") == []


@every_sync_driver
def test_threads_that_wait_are_pending(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, pool_size=1, max_overflow=0, pool_timeout=30)
    held = pool.take()
    threads = [threading.Thread(target=lambda: pool.engine.connect().close()) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: pool.read("pending_requests") == 3, 30, "three waiting")
    assert pool.state() == (1, 0)
    held.close()
    for thread in threads:
        thread.join()
    assert pool.read("pending_requests") == 0
    assert pool.state() == (0, 1)
    (point,) = pool.recorded.points("db.client.connection.wait_time")
    assert point.count == 4


@every_async_driver
def test_tasks_that_wait_are_pending(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, pool_size=1, max_overflow=0, pool_timeout=30)

    async def ask() -> None:
        async with pool.engine.connect():
            pass

    async def main() -> None:
        async with pool.engine.connect():
            tasks = [asyncio.create_task(ask()) for _ in range(3)]
            for _ in range(100):
                if pool.read("pending_requests") == 3:
                    break
                await asyncio.sleep(0.01)
            assert pool.read("pending_requests") == 3
        await asyncio.gather(*tasks)

    pool.connected.wait(main())
    assert pool.read("pending_requests") == 0
    assert pool.read("wait_time") == 4
    assert pool.state() == (0, 1)


@every_postgres_driver
def test_a_wait_in_vain_is_a_timeout(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, pool_size=1, max_overflow=0, pool_timeout=0.05)
    held = pool.take()
    for _ in range(2):
        with pytest.raises(sa.exc.TimeoutError):
            pool.take()
    assert pool.read("timeouts") == 2
    assert pool.read("pending_requests") == 0
    assert pool.read("wait_time") == 3
    (point,) = pool.recorded.points("db.client.connection.wait_time")
    assert point.sum >= 0.1
    pool.call(held, "close")
    assert pool.read("use_time") == 1
    # No operation of the database has failed.
    assert pool.recorded.points("db.client.errors") == []


@every_postgres_driver
def test_invalidated_connections_are_gone(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, **SMALL)
    held = pool.take()
    pool.call(held, "invalidate")
    assert pool.state() == (0, 0)
    pool.call(held, "execute", sa.text("SELECT 1"))
    assert pool.state() == (1, 0)
    pool.call(held, "close")
    assert pool.state() == (0, 1)
    assert pool.read("create_time") == 2
    assert pool.read("use_time") == 2


@every_postgres_driver
def test_a_killed_connection_is_gone_when_it_is_found_dead(driver: Driver, pooled: Make, server: Any) -> None:
    pool = pooled(driver, pool_pre_ping=True, **SMALL)
    pool.call(pool.take(), "close")
    assert pool.state() == (0, 1)
    with server.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = %s", (pool.name,)
        )
    held = pool.take()
    assert pool.state() == (1, 0)
    pool.call(held, "close")
    assert pool.state() == (0, 1)
    assert pool.read("create_time") == 2


@every_postgres_driver
def test_a_statement_that_loses_its_connection(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, **SMALL)
    held = pool.take()
    with pytest.raises(sa.exc.DBAPIError):
        pool.call(held, "execute", sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    pool.call(held, "close")
    assert pool.state() == (0, 0)
    assert pool.read("use_time") == 1


def test_detached_connections_are_not_the_pools_any_more(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, **SMALL)
    held = pool.take()
    held.detach()
    assert pool.recorded.numbers("db.client.connection.count", "db.client.connection.state") == {"used": 0, "idle": 0}
    assert pool.server() == 1
    with pool.take():
        assert pool.recorded.numbers("db.client.connection.count", "db.client.connection.state") == {
            "used": 1,
            "idle": 0,
        }
    held.close()
    assert pool.state() == (0, 1)
    # Only one was ever given back.
    assert pool.read("use_time") == 1


@every_postgres_driver
def test_dispose_without_connections_out(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, **SMALL)
    for connection in [pool.take() for _ in range(2)]:
        pool.call(connection, "close")
    assert pool.state() == (0, 2)
    pool.dispose()
    assert pool.state() == (0, 0)
    assert pool.read("max") == 3
    pool.call(pool.take(), "close")
    assert pool.state() == (0, 1)
    assert pool.read("create_time") == 3


@every_postgres_driver
def test_dispose_with_connections_out(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, **SMALL)
    held = [pool.take() for _ in range(2)]
    pool.dispose()
    assert pool.state() == (2, 0)
    new = pool.take()
    assert pool.state() == (3, 0)
    pool.call(held.pop(), "invalidate")
    assert pool.state() == (2, 0)
    pool.call(new, "close")
    assert pool.state() == (1, 1)
    pool.call(held.pop(), "invalidate")
    assert pool.state() == (0, 1)


def test_a_connection_that_comes_back_to_a_disposed_pool_goes_with_it(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, **SMALL)
    held = pool.take()
    pool.dispose()
    held.close()
    del held
    # Before that the old pool has it, and the server, too.
    gc.collect()
    assert pool.state() == (0, 0)


def test_a_connection_that_nobody_closed_comes_back(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, **SMALL)
    held = pool.engine.raw_connection()
    assert pool.state() == (1, 0)
    del held
    gc.collect()
    assert pool.state() == (0, 1)
    assert pool.read("use_time") == 1


@pytest.mark.timeout(60)
def test_a_connection_that_nobody_closed_comes_back_while_metrics_are_collected(pooled: Make) -> None:
    """The garbage collector runs in the middle of a locked section of the SDK, and the pool in the middle of it."""
    pool = pooled(PSYCOPG2, **SMALL)
    pool.engine.raw_connection().close()
    assert pool.read("use_time") == 1
    measures = watching.switches.pools
    assert measures is not None
    cycle: list[Any] = [pool.engine.raw_connection()]
    cycle.append(cycle)
    del cycle
    with collecting(measures.use_time):
        gc.collect()
    assert pool.state() == (0, 1)
    assert pool.read("use_time") == 2


@every_async_driver
def test_cancelled_tasks_leave_nothing_behind(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, pool_size=1, max_overflow=0, pool_timeout=30)

    async def sleep() -> None:
        async with pool.engine.connect() as connection:
            await connection.execute(sa.text("SELECT pg_sleep(6)"))

    async def ask() -> None:
        async with pool.engine.connect():
            pass

    async def main() -> None:
        running = asyncio.create_task(sleep())
        while not pool.connected.received("pg_sleep"):  # noqa: ASYNC110  it happens in another process
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(ask())
        while pool.read("pending_requests") != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in (waiting, running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    pool.connected.wait(main())
    assert pool.read("pending_requests") == 0
    assert pool.read("timeouts") == 0
    assert pool.state()[0] == 0
    with_it = pool.take()
    assert pool.state() == (1, 0)
    pool.call(with_it, "close")
    assert pool.state() == (0, 1)


def test_a_forked_child_reports_only_its_own(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, **SMALL)
    held = pool.take()
    pool.call(pool.take(), "close")
    assert pool.state() == (1, 1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = [watching._read_count(), watching._sums(lambda pool: pool.limits()[0])]
            pool.engine.dispose(close=False)
            with pool.engine.connect():
                found += [watching._read_count(), watching._sums(lambda pool: pool.limits()[0])]
            os.write(write, repr(found).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == repr(
            [
                [],
                [],
                [
                    (1, {NAME: pool.name, "db.client.connection.state": "used"}),
                    (0, {NAME: pool.name, "db.client.connection.state": "idle"}),
                ],
                [(3, {NAME: pool.name})],
            ]
        )
    assert pool.recorded.numbers("db.client.connection.count", "db.client.connection.state") == {"used": 1, "idle": 1}
    held.close()


@contextmanager
def engines(postgres: Postgres, *options: dict[str, Any], driver: str = "psycopg2") -> Iterator[list[Any]]:
    """Engines that have been used."""
    made = [sa.create_engine(postgres.sqlalchemy(driver), **each) for each in options]
    # No variable may keep one of them.
    [engine.connect().close() for engine in made]
    yield made
    while made:
        made.pop().dispose()
    gc.collect()


def names(recorded: Telemetry) -> set[Any]:
    return set(recorded.numbers("db.client.connection.max", NAME))


def test_engines_that_connect_to_the_same_are_told_apart(telemetry: Start, postgres: Postgres) -> None:
    recorded = telemetry()
    name = f"postgresql+psycopg2://127.0.0.1:{postgres.port}/shop"
    with engines(postgres, {"pool_size": 1}, {"pool_size": 2}, {"pool_size": 3}) as made:
        limits = {name: 11, f"{name}#2": 12, f"{name}#3": 13}
        assert recorded.numbers("db.client.connection.max", NAME) == limits
        assert postgres.password not in str(limits)
        # The number of one that is gone is free.
        made.pop(1).dispose()
        gc.collect()
        assert names(recorded) == {name, f"{name}#3"}
        with engines(postgres, {}):
            assert names(recorded) == {name, f"{name}#2", f"{name}#3"}
        assert names(recorded) == {name, f"{name}#3"}
    assert names(recorded) == set()


def test_engines_that_were_given_the_same_name_add_up(telemetry: Start, postgres: Postgres) -> None:
    recorded = telemetry()
    same = {"pool_logging_name": "orders", "pool_size": 1, "max_overflow": 1}
    with engines(postgres, same, same) as made, made[0].connect():
        assert recorded.numbers("db.client.connection.max", NAME) == {"orders": 4}
        assert recorded.numbers("db.client.connection.count", "db.client.connection.state") == {"used": 1, "idle": 1}


def test_names_are_bounded(telemetry: Start, postgres: Postgres) -> None:
    recorded = telemetry()
    with engines(postgres, *({"pool_logging_name": f"pool {n}", "pool_size": 1} for n in range(60))):
        found = recorded.numbers("db.client.connection.max", NAME)
        assert len(found) == 50
        assert found["_OTHER"] == 11 * 11
        assert sum(recorded.numbers("db.client.connection.create_time", NAME).values()) == 60


CLASSES: dict[str, tuple[dict[str, Any], int | None, int | None]] = {
    "QueuePool": ({**SMALL}, 3, 2),
    "no limit": ({"pool_size": 2, "max_overflow": -1}, None, 2),
    # What the documentation has always said, and what is so since 2.0.
    "nothing limited": ({"pool_size": 0}, None if VERSION >= (2, 0) else 10, None),
    "NullPool": ({"poolclass": pools.NullPool}, None, 0),
    "StaticPool": ({"poolclass": pools.StaticPool}, 1, 1),
    "AssertionPool": ({"poolclass": pools.AssertionPool}, 1, 1),
    "SingletonThreadPool": ({"poolclass": pools.SingletonThreadPool, "pool_size": 4}, 4, 4),
}


@every_postgres_driver
@pytest.mark.parametrize("kind", CLASSES)
def test_any_class_of_pool(kind: str, driver: Driver, pooled: Make) -> None:
    options, most, most_idle = CLASSES[kind]
    if driver.awaits and kind == "SingletonThreadPool":
        # It is none of asyncio's.
        return
    pool = pooled(driver, **options)
    held = pool.take()
    assert pool.state() == (1, 0)
    assert pool.read("max") == most
    assert pool.read("idle.max") == most_idle
    pool.call(held, "close")
    assert pool.state() == (0, 0 if kind == "NullPool" else 1)
    pool.call(pool.take(), "close")
    assert pool.read("create_time") == (2 if kind == "NullPool" else 1)
    assert pool.read("wait_time") == 2
    assert pool.read("use_time") == 2
    pool.dispose()
    assert pool.state() == (0, 0)


@pytest.mark.parametrize("driver", SQLITE_DRIVERS, ids=str)
def test_sqlite_has_pools_too(driver: Driver, telemetry: Start, database: Connect) -> None:
    recorded = telemetry()
    connected = database(driver)
    connected.execute("SELECT 1")
    connected.execute("SELECT 1")
    name = f"sqlite+{driver.name}://:/{connected.sync_engine.url.database}"
    assert recorded.numbers("db.client.connection.use_time", NAME) == {name: 2}
    assert recorded.numbers("db.client.connection.pending_requests", NAME) == {name: 0}


def test_a_thread_that_asks_twice_uses_one_connection_once(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, poolclass=pools.SingletonThreadPool)
    with pool.take(), pool.take():
        assert pool.state() == (1, 0)
    assert pool.read("use_time") == 1
    assert pool.read("wait_time") == 2


def test_a_creator_of_the_applications_own(pooled: Make, postgres: Postgres) -> None:
    def creator() -> Any:
        return psycopg2.connect(postgres.url, application_name="created")

    pool = pooled(PSYCOPG2, creator=creator, pool_logging_name="created", connect_args={})
    pool.name = "created"
    with pool.take():
        assert pool.state() == (1, 0)
    pool.dispose()
    with pool.take():
        assert pool.state() == (1, 0)
    assert pool.read("create_time") == 2


def test_two_engines_that_share_a_pool_are_one(pooled: Make) -> None:
    pool = pooled(PSYCOPG2, **SMALL)
    second = sa.engine.Engine(pool.engine.pool, pool.engine.dialect, pool.engine.url)
    with second.connect(), pool.take():
        assert pool.state() == (2, 0)
    assert pool.read("max") == 3
    assert pool.read("use_time") == 2
    assert pool.read("create_time") == 2


@every_postgres_driver
def test_an_engine_with_other_options_is_measured_too(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, **SMALL)
    assert pool.connected.execute("SELECT 1", isolation_level="AUTOCOMMIT") == [(1,)]
    changed = pool.engine.execution_options(isolation_level="AUTOCOMMIT")
    if driver.awaits:
        pool.connected.wait(pool.connected.wait(_started(changed)).close())
    else:
        changed.connect().close()
    assert pool.read("wait_time") == 2
    assert pool.read("use_time") == 2


@every_postgres_driver
def test_a_connection_that_cannot_be_opened_is_none(driver: Driver, pooled: Make) -> None:
    pool = pooled(driver, connect_args={"no_such_option": 1}, **SMALL)
    with pytest.raises(Exception, match="no_such_option"):
        pool.take()
    assert pool.state() == (0, 0)
    assert pool.read("create_time") is None
    assert pool.read("use_time") is None
    assert pool.read("timeouts") == 0


def test_statements_stay_on_sqlalchemys_fast_path(pooled: Make) -> None:
    pool = pooled(PSYCOPG2)
    with pool.take():
        assert pool.engine._has_events is False


def test_nothing_is_measured_after_uninstrument(pooled: Make) -> None:
    from otel_cc.sql.instrumentor import SQLAlchemyInstrumentor

    pool = pooled(PSYCOPG2, **SMALL)
    held = pool.take()
    SQLAlchemyInstrumentor().uninstrument()
    held.close()
    pool.take().close()
    assert pool.recorded.points("db.client.connection.count") == []
    assert pool.read("use_time") is None
    assert pool.read("wait_time") == 1


@pytest.mark.parametrize("broken", ["bounded", "watched"])
def test_telemetry_that_fails_costs_the_application_no_connection(
    broken: str, pooled: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    pool = pooled(PSYCOPG2, **SMALL)
    monkeypatch.setenv("OTEL_CC_STRICT", "false")
    monkeypatch.setattr(watching, broken, fail)
    assert pool.connected.execute("SELECT 1") == [(1,)]


def test_an_engine_that_is_gone_is_not_reported(telemetry: Start) -> None:
    recorded = telemetry()
    engine = sa.create_engine("sqlite://", pool_logging_name="gone")
    engine.connect().close()
    assert recorded.numbers("db.client.connection.pending_requests", NAME) == {"gone": 0}
    engine.dispose()
    del engine
    gc.collect()
    assert recorded.numbers("db.client.connection.pending_requests", NAME) == {}
