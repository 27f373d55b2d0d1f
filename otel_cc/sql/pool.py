"""The connection pools of the engines: what they hold is read when metrics are collected, from SQLAlchemy's own records.

A pool's records say of each connection whether it is open and whether somebody has it. Nothing is counted up and down,
so nothing drifts when a connection is detached or invalidated, or when a pool is disposed of while connections are out
(contrib's one pool metric does: opentelemetry-python-contrib #5060 and its neighbours). The records come to us through
the pool's creator, which a disposed pool hands on to its successor and every class of pool calls.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from otel_cc import guard
from otel_cc.living import Living
from otel_cc.metrics import Values, bounded
from otel_cc.sql.measures import PoolMeasures
from otel_cc.sql.switches import switches
from otel_cc.sql.transaction import Operations

_NAME = "db.client.connection.pool.name"
_STATE = "db.client.connection.state"
_WATCH = "_otel_cc"
_SINCE = "otel_cc.since"


class WatchedPool:
    """The pool of one engine, and those that take its place when it is disposed of.

    :param engine: which is not kept
    :param name: what the pool is called
    :param operations: of the engine, where opened connections are recorded
    :ivar waiting: one object for each caller that waits for a connection
    """

    def __init__(self, engine: Any, name: str, operations: Operations) -> None:
        self._engine = weakref.ref(engine)
        self.name = name
        self._operations = operations
        self._records: Living[Any] = Living()
        self.waiting: set[object] = set()
        self._attributes: dict[str, Any] | None = None

    @property
    def attributes(self) -> dict[str, Any] | None:
        """Those of its points; None before it was used in this process."""
        return self._attributes

    def install(self, pool: Any) -> None:
        """Watch a pool."""
        from sqlalchemy import event

        pool._creator = self._wrap_creator(pool._invoke_creator)
        # Those of a pool, unlike those of an engine, make no statement slower.
        event.listen(pool, "checkin", self._checked_in)
        event.listen(pool, "detach", _detached)

    def connections(self) -> tuple[int, int]:
        """How many connections are in use, and how many are idle; detached ones are not the pool's any more."""
        used = idle = 0
        for record in self._records:
            if record.dbapi_connection is not None:
                if record.fairy_ref is not None:
                    used += 1
                else:
                    idle += 1
        return used, idle

    def limits(self) -> tuple[int | None, int | None]:
        """How many connections it may have, and how many it keeps idle; None where nothing limits them."""
        from sqlalchemy import pool as pools

        engine = self._engine()
        if engine is None:
            return None, None
        pool = engine.pool
        if isinstance(pool, pools.QueuePool):
            size, overflow = pool.size(), pool._max_overflow
            return (None if overflow < 0 else size + overflow), size or None
        if isinstance(pool, pools.SingletonThreadPool):
            return pool.size, pool.size
        if isinstance(pool, (pools.StaticPool, pools.AssertionPool)):
            return 1, 1
        return None, 0 if isinstance(pool, pools.NullPool) else None

    def acquire(self, measures: PoolMeasures, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Get a connection from the pool, as ``original`` does."""
        try:
            attributes = self._attributes or self._begin()
        except Exception:
            guard.failed("the wait for a connection")
            return original(*args, **kwargs)
        token = object()
        self.waiting.add(token)
        started = perf_counter()
        try:
            connection = original(*args, **kwargs)
        except BaseException as error:
            seconds = perf_counter() - started
            self.waiting.discard(token)
            try:
                measures.wait_time.record_plain(seconds, attributes)
                if _timed_out(error):
                    measures.timeouts.add(1, attributes)
            except Exception:
                guard.failed("the wait for a connection")
            raise
        now = perf_counter()
        self.waiting.discard(token)
        try:
            measures.wait_time.record_plain(now - started, attributes)
            # A thread that asks a SingletonThreadPool again gets the connection that it has.
            connection._connection_record.record_info.setdefault(_SINCE, now)
        except Exception:
            guard.failed("the wait for a connection")
        return connection

    def forget_connections(self) -> None:
        """What a forked child does: the connections are its parent's, and nobody waits here."""
        self._records.forget()
        self.waiting = set()
        self._attributes = None

    def _begin(self) -> dict[str, Any]:
        """The first use in this process; an engine that is never used, as in a supervisor, has nothing to report."""
        self._attributes = {_NAME: bounded(_NAME, self.name)}
        if switches.pools is not None:
            switches.pools.timeouts.add(0, self._attributes)
        return self._attributes

    def _wrap_creator(self, original: Callable[[Any], Any]) -> Callable[..., Any]:
        # The name and default of the argument tell the pool to give its record.
        def creator(connection_record: Any = None) -> Any:
            started = perf_counter()
            try:
                connection = original(connection_record)
            except BaseException as error:
                self._operations.ended("CONNECT", perf_counter() - started, error)
                raise
            seconds = perf_counter() - started
            self._opened(connection_record, seconds)
            self._operations.ended("CONNECT", seconds, None)
            return connection

        setattr(creator, _WATCH, self)
        return creator

    def _opened(self, record: Any, seconds: float) -> None:
        try:
            attributes = self._attributes or self._begin()
            if record is not None:
                self._records.add(record)
            if switches.pools is not None:
                switches.pools.create_time.record_plain(seconds, attributes)
        except Exception:
            guard.failed("a new connection")

    def _checked_in(self, _: Any, record: Any) -> None:
        try:
            since = record.record_info.pop(_SINCE, None)
            measures, attributes = switches.pools, self._attributes
            if since is not None and measures is not None and attributes is not None:
                measures.use_time.record_plain(perf_counter() - since, attributes)
        except Exception:
            guard.failed("the return of a connection")


def watched(engine: Any) -> WatchedPool | None:
    """The pool of an engine, or None if it is not watched."""
    found: WatchedPool | None = getattr(engine.pool._creator, _WATCH, None)
    return found


def watch(engine: Any, operations: Operations) -> None:
    """Watch the pool of an engine; engines may share one."""
    if watched(engine) is not None:
        return
    with _naming:
        pool = WatchedPool(engine, _free_name(engine), operations)
        pool.install(engine.pool)
        _pools.add(pool)


def hook_raw_connection(cls: Any) -> None:
    """Measure the wait for a connection; there is no event before it.

    :param cls: SQLAlchemy's ``Engine``: not an instance, so that its copies with other options are measured, too
    """
    original = cls.raw_connection

    def raw_connection(self: Any, *args: Any, **kwargs: Any) -> Any:
        measures, pool = switches.pools, None
        if measures is not None:
            try:
                pool = watched(self)
            except Exception:
                guard.failed("the wait for a connection")
        if measures is None or pool is None:
            return original(self, *args, **kwargs)
        return pool.acquire(measures, original, self, *args, **kwargs)

    raw_connection.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    cls.raw_connection = raw_connection


_pools: Living[WatchedPool] = Living()
_naming = threading.Lock()


def _free_name(engine: Any) -> str:
    """What the engine says, or where it connects to; engines that connect to the same are numbered.

    A number is free again when its engine is gone, so that an application that makes engines all the time has few.
    """
    given = getattr(engine.pool, "_orig_logging_name", None)
    if given:
        return str(given)
    url = engine.url
    # As contrib names it; never with the user or the password.
    name = f"{url.drivername}://{url.host or ''}:{url.port or ''}/{url.database or ''}"
    taken = {pool.name for pool in _pools}
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def _detached(_: Any, record: Any) -> None:
    record.record_info.pop(_SINCE, None)


def _timed_out(error: BaseException) -> bool:
    from sqlalchemy import exc

    return isinstance(error, exc.TimeoutError)


def _read_count() -> Values:
    sums: dict[tuple[str, str], int] = {}
    for pool in _pools:
        if pool.attributes is not None:
            name = pool.attributes[_NAME]
            for state, number in zip(("used", "idle"), pool.connections(), strict=True):
                sums[name, state] = sums.get((name, state), 0) + number
    return [(number, {_NAME: name, _STATE: state}) for (name, state), number in sums.items()]


def _sums(read: Callable[[WatchedPool], int | None]) -> Values:
    sums: dict[str, int] = {}
    for pool in _pools:
        if pool.attributes is not None:
            number = read(pool)
            if number is not None:
                name = pool.attributes[_NAME]
                sums[name] = sums.get(name, 0) + number
    return [(number, {_NAME: name}) for name, number in sums.items()]


READERS: dict[str, Callable[[], Values]] = {
    "db.client.connection.count": _read_count,
    "db.client.connection.max": lambda: _sums(lambda pool: pool.limits()[0]),
    "db.client.connection.idle.max": lambda: _sums(lambda pool: pool.limits()[1]),
    "db.client.connection.pending_requests": lambda: _sums(lambda pool: len(pool.waiting)),
}
"""What is read of all pools when metrics are collected."""


def _after_fork() -> None:
    global _naming
    _naming = threading.Lock()
    for pool in _pools:
        pool.forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
