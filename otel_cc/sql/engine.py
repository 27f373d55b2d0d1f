"""A statement on its way into the database: what happens to it before, in front of SQLAlchemy's dialect.

Every engine passes ``Engine.__init__``, the sync engine inside of an async one included, so each is hooked exactly once
(contrib hooks async engines twice: opentelemetry-python-contrib #2149). The hook is on the dialect instance, not an
event: any engine-level event switches on SQLAlchemy's slow dispatch, 11 to 18 microseconds per statement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from otel_cc import context, guard, settings
from otel_cc.sql import pool
from otel_cc.sql.budget import Budget
from otel_cc.sql.commenter import Commenter
from otel_cc.sql.execution import Execution, is_recorded
from otel_cc.sql.records import Records
from otel_cc.sql.statement import Statements
from otel_cc.sql.switches import suppressed, switches
from otel_cc.sql.transaction import Operations, Transactions

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/#db-system-name
_SYSTEMS = {"oracle": "oracle.db", "mssql": "microsoft.sql_server"}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
# Drivers that open a server-side cursor by DECLARE.
_DECLARING = ("psycopg", "psycopg2")
_UNKNOWN_VERSION = (0,)


def hook(module: Any) -> None:
    """Hook every engine that will be created.

    :param module: ``sqlalchemy.engine.base``
    """
    original = module.Engine.__init__
    if hasattr(original, _HOOKED):
        return

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            # Somebody may make a second engine with the dialect of a first one, or with its pool.
            if not hasattr(self.dialect, _HOOKED):
                _Dialect(self.dialect, self.url).install()
            pool.watch(self, getattr(self.dialect, _HOOKED).operations)
        except Exception:
            guard.failed("the SQL engine")

    setattr(__init__, _HOOKED, True)
    __init__.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    module.Engine.__init__ = __init__
    pool.hook_raw_connection(module.Engine)


_HOOKED = "_otel_cc"


class _Dialect:
    """One engine's dialect.

    :param dialect: the instance, which belongs to this engine alone
    :param url: where the engine connects to
    """

    def __init__(self, dialect: Any, url: Any) -> None:
        self._dialect = dialect
        self._driver = str(dialect.driver)
        self._commenter = Commenter(self._driver)
        self._budget = Budget(self._driver, settings.get().sql_comment_budget)
        system = str(dialect.name)
        base: dict[str, Any] = {"db.system.name": _SYSTEMS.get(system, system)}
        if url.database:
            base["db.namespace"] = str(url.database)
        if url.host:
            base["server.address"] = str(url.host)
            port = url.port or _PORTS.get(system)
            if port:
                base["server.port"] = port
        target = str(url.database or url.host or system)
        self._records = Records(base, target, self._budget)
        self.operations = Operations(self._records)
        self._transactions = Transactions(dialect, self.operations)
        self._statements = Statements(base, target)
        self._batches = Statements(base, target, "BATCH ")
        self._interpolates = dialect.paramstyle in ("format", "pyformat")
        # What SQLAlchemy itself asks a new server is not the application's, and is asked inside of some request.
        self._initializing = False

    def install(self) -> None:
        dialect = self._dialect
        dialect.do_execute = self._wrap(dialect.do_execute)
        dialect.do_execute_no_params = self._wrap_no_params(dialect.do_execute_no_params)
        dialect.do_executemany = self._wrap_many(dialect.do_executemany)
        dialect.initialize = self._wrap_initialize(dialect.initialize)
        self._transactions.install()
        if hasattr(dialect.dispatch, "handle_error"):
            # Since SQLAlchemy 2.0 an event of the dialect, which costs nothing until something fails.
            from sqlalchemy import event

            event.listen(dialect, "handle_error", self._failed)
        setattr(dialect, _HOOKED, self)

    def _failed(self, failure: Any) -> None:
        """Record what failed after the statement was executed: while its rows were fetched, by SQLAlchemy or the caller."""
        # SQLAlchemy raises what a listener raises, instead of the failure.
        with guard.guarded("a fetch that failed"):
            error, execution_context = failure.original_exception, failure.execution_context
            if execution_context is None or self._initializing or is_recorded(error):
                return
            if failure.statement is not None and not self._is_drivers(failure):
                # An event listener of the application's.
                return
            self.operations.fetch_failed(error, self._statements.of(execution_context.statement).attributes)

    def _is_drivers(self, failure: Any) -> bool:
        error = failure.original_exception
        if failure.sqlalchemy_exception is not None or not isinstance(error, Exception):
            return True
        # SQLAlchemy lets asyncpg's exceptions through when it fetches from a server-side cursor.
        return type(error).__module__.partition(".")[0] == self._driver

    def _wrap_initialize(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def initialize(connection: Any) -> Any:
            self._initializing = True
            try:
                result = original(connection)
            finally:
                self._initializing = False
            self._transactions.initialized(connection)
            return result

        return initialize

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        begin, interpolates = self._begin, self._interpolates

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            execution = begin(statement, context, interpolates and parameters is not None)
            if execution is None:
                return original(cursor, statement, parameters, context)
            return execution.run(original, cursor, execution.text, parameters, context)

        return do_execute

    def _wrap_no_params(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            # No parameters are given to the driver at all, so none looks for a "%".
            execution = self._begin(statement, context, False)
            if execution is None:
                return original(cursor, statement, context)
            return execution.run(original, cursor, execution.text, context)

        return do_execute_no_params

    def _wrap_many(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_executemany(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            # The body of an executemany is rewritten by drivers (psycopg2's execute_values), so it gets no comment.
            execution = self._begin(statement, context, False, many=parameters)
            if execution is None:
                return original(cursor, statement, parameters, context)
            return execution.run(original, cursor, statement, parameters, context)

        return do_executemany

    def _begin(self, text: str, execution_context: Any, interpolated: bool, many: Any = None) -> Execution | None:
        """Prepare an execution; None when there is nothing to do for it."""
        spans, comments = switches.spans, switches.comments
        measured = spans is not None or switches.measures is not None
        if self._initializing or (comments == "off" and not measured):
            return None
        try:
            current = otel_context.get_current()
            if suppressed(current):
                return None
            correlation = None if comments == "off" or many is not None else context.current(current)
            if correlation is None and not measured:
                return None
            batch = many is not None and len(many) > 1
            statement = (self._batches if batch else self._statements).of(text)
            execution = Execution(self._records, statement, text)
            if spans is not None:
                attributes: dict[str, Any] = statement.attributes
                if batch:
                    attributes = {**attributes, "db.operation.batch.size": len(many)}
                execution.span = spans.tracer.start_span(statement.name, current, SpanKind.CLIENT, attributes)
        except Exception:
            guard.failed("the SQL statement")
            return None
        try:
            if (
                correlation is not None
                and statement.commentable
                and (comments == "always" or self._budget.pays(statement.usual))
                and not self._declares(execution_context)
            ):
                span = execution.span
                if span is None:
                    # Contrib's span of this statement, which is never the current one; else what runs around it.
                    span = getattr(execution_context, "_otel_span", None) or trace.get_current_span(current)
                execution.add_comment(self._commenter.comment(correlation, span.get_span_context(), interpolated))
        except Exception:
            guard.failed("the SQL comment")
        return execution

    def _declares(self, execution_context: Any) -> bool:
        """Whether the statement becomes a part of a DECLARE CURSOR, which PostgreSQL tells apart by its text before 16."""
        return (
            getattr(execution_context, "_is_server_side", False)
            and self._driver in _DECLARING
            and (self._dialect.server_version_info or _UNKNOWN_VERSION) < (16,)
        )
