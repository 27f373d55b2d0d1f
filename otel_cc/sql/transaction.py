"""What an engine does besides statements: COMMIT and ROLLBACK, CONNECT where a pool opens a connection, and failed fetches.

A COMMIT or ROLLBACK that succeeds is measured and makes no span: every request has one, and nobody looks for it in a
trace. One that fails makes one, like a connection that is opened or cannot be, which is slow and rare.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time_ns
from typing import Any

from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind

from otel_cc import guard
from otel_cc.sql.records import Records
from otel_cc.sql.switches import suppressed, switches

_BEGIN = 2  # psycopg2.extensions.STATUS_BEGIN
_IDLE = 0  # psycopg.pq.TransactionStatus.IDLE
_FETCH = "FETCH"


class Operations:
    """The operations of one engine that are no statements.

    :param records: of the engine
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def done(self, operation: str, seconds: float) -> None:
        """Record a success that makes no span.

        :param seconds: how long it took
        """
        spans = switches.spans
        if spans is None:
            return
        try:
            current = get_current()
            if not suppressed(current):
                spans.duration.record(seconds, self._records.attributes(operation, None), current)
        except Exception:
            guard.failed(f"the end of a SQL {operation}")

    def ended(self, operation: str, seconds: float, error: BaseException | None) -> None:
        """Record an operation, with a span.

        :param seconds: how long it took
        :param error: how it failed, or None
        """
        spans, records = switches.spans, self._records
        try:
            current = get_current()
            if suppressed(current):
                return
            if spans is None:
                if error is not None:
                    records.failed(operation, error, None)
                return
            now = time_ns()
            span = spans.tracer.start_span(
                f"{operation} {records.target}",
                current,
                SpanKind.CLIENT,
                {**records.base, "db.operation.name": operation},
                start_time=now - int(seconds * 1e9),
            )
            try:
                error_type = None if error is None else records.failed(operation, error, span)
                spans.record(span, seconds, records.attributes(operation, error_type))
            finally:
                span.end(now)
        except Exception:
            guard.failed(f"the end of a SQL {operation}")

    def fetch_failed(self, error: BaseException, statement: dict[str, Any]) -> None:
        """Record that rows could not be fetched; the statement itself was recorded when the database had answered it.

        :param error: how it failed
        :param statement: the attributes of its span
        """
        spans, records = switches.spans, self._records
        current = get_current()
        if suppressed(current):
            return
        if spans is None:
            records.failed(_FETCH, error, None)
            return
        attributes = {**statement, "db.operation.name": _FETCH}
        span = spans.tracer.start_span(f"{_FETCH} {records.target}", current, SpanKind.CLIENT, attributes)
        try:
            records.failed(_FETCH, error, span)
        finally:
            span.end()


class Transactions:
    """The ends of transactions of one engine's dialect.

    :param dialect: the instance
    :param operations: of the engine
    """

    def __init__(self, dialect: Any, operations: Operations) -> None:
        self._dialect = dialect
        self._operations = operations
        self._is_open = _PROBES.get(str(dialect.driver), _always)
        self._initialized: Any = None

    def install(self) -> None:
        """Wrap the methods of the dialect that end a transaction."""
        dialect = self._dialect
        dialect.do_commit = self._wrap_end(dialect.do_commit, "COMMIT")
        dialect.do_rollback = self._wrap_end(dialect.do_rollback, "ROLLBACK")
        if hasattr(dialect, "_do_twophase"):
            # By calls of psycopg2 and psycopg; everywhere else by statements, and by the two above.
            dialect.do_prepare_twophase = self._wrap(dialect.do_prepare_twophase, "PREPARE")
            dialect.do_commit_twophase = self._wrap(dialect.do_commit_twophase, "COMMIT")
            dialect.do_rollback_twophase = self._wrap(dialect.do_rollback_twophase, "ROLLBACK")

    def initialized(self, connection: Any) -> None:
        """SQLAlchemy has asked a new server what it is; the ROLLBACK that follows is not the application's."""
        self._initialized = connection.connection

    def _wrap_end(self, original: Callable[[Any], Any], operation: str) -> Callable[[Any], Any]:
        measured, is_open = self._wrap(original, operation), self._is_open

        def end(dbapi_connection: Any) -> Any:
            if self._initialized is not None and self._initialized is dbapi_connection:
                self._initialized = None
                return original(dbapi_connection)
            try:
                asks = is_open(getattr(dbapi_connection, "dbapi_connection", dbapi_connection))
            except Exception:
                # A driver, or a version of one, that we do not know so well.
                asks = True
            return measured(dbapi_connection) if asks else original(dbapi_connection)

        return end

    def _wrap(self, original: Callable[..., Any], operation: str) -> Callable[..., Any]:
        operations = self._operations

        def end(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                result = original(*args, **kwargs)
            except BaseException as error:
                operations.ended(operation, perf_counter() - started, error)
                raise
            operations.done(operation, perf_counter() - started)
            return result

        return end


# Whether a driver's commit() and rollback() ask the server: those of the known ones do nothing where no transaction is
# open, and the pool of SQLAlchemy calls rollback() each time that a connection comes back.


def _always(connection: Any) -> bool:
    return True


def _psycopg2(connection: Any) -> bool:
    return bool(connection.status == _BEGIN)


def _psycopg(connection: Any) -> bool:
    return bool(getattr(connection, "_connection", connection).pgconn.transaction_status != _IDLE)


def _asyncpg(connection: Any) -> bool:
    # A flag of its own before SQLAlchemy 2.1.
    started = getattr(connection, "_started", None)
    return connection._transaction is not None if started is None else bool(started)


def _sqlite(connection: Any) -> bool:
    return bool(getattr(connection, "_connection", connection).in_transaction)


_PROBES: dict[str, Callable[[Any], bool]] = {
    "psycopg2": _psycopg2,
    "psycopg": _psycopg,
    "asyncpg": _asyncpg,
    "pysqlite": _sqlite,
    "aiosqlite": _sqlite,
}
