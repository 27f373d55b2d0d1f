"""A statement on its way into the database: its comment, its CLIENT span and its duration.

Every engine passes ``Engine.__init__``, the sync engine inside of an async one included, so each is hooked exactly once
(contrib hooks async engines twice: opentelemetry-python-contrib #2149). The hook is on the dialect instance, not an
event: any engine-level event switches on SQLAlchemy's slow dispatch, 11 to 18 microseconds per statement.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import SpanKind, StatusCode

from otel_cc import context, guard, metrics, settings
from otel_cc.sql import comment
from otel_cc.sql.budget import Budget
from otel_cc.sql.statement import Statement, Statements
from otel_cc.tracing.tracer import get_tracer

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/#db-system-name
_SYSTEMS = {"oracle": "oracle.db", "mssql": "microsoft.sql_server"}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}


class ClientSpans:
    """Makes the spans and durations; set while our producer is on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.sql")
        self.duration = metrics.histogram("db.client.operation.duration")


class Switches:
    """What happens to statements in this process; the hooks read it at every statement.

    :ivar spans: makes spans, or None
    :ivar comments: "auto", "always" or "off"
    """

    spans: ClientSpans | None = None
    comments: str = "off"


switches = Switches()


def hook(module: Any) -> None:
    """Hook every engine that will be created.

    :param module: ``sqlalchemy.engine.base``
    """
    original = module.Engine.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            _Dialect(self.dialect, self.url).install()
        except Exception:
            guard.failed("the SQL engine")

    __init__.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    module.Engine.__init__ = __init__


class _Dialect:
    """One engine's dialect.

    :param dialect: the instance, which belongs to this engine alone
    :param url: where the engine connects to
    """

    def __init__(self, dialect: Any, url: Any) -> None:
        self._dialect = dialect
        self._driver = str(dialect.driver)
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
        self._base = base
        target = str(url.database or url.host or system)
        self._statements = Statements(base, lambda operation: f"{operation} {target}")
        self._interpolates = dialect.paramstyle in ("format", "pyformat")
        # What SQLAlchemy itself asks a new server is not the application's, and is asked inside of some request.
        self._initializing = False
        self._metric_attributes = lru_cache(maxsize=256)(self._make_metric_attributes)

    def install(self) -> None:
        dialect = self._dialect
        dialect.do_execute = self._wrap(dialect.do_execute, self._interpolates)
        dialect.do_execute_no_params = self._wrap_no_params(dialect.do_execute_no_params)
        dialect.do_executemany = self._wrap_many(dialect.do_executemany)
        dialect.initialize = self._wrap_initialize(dialect.initialize)

    def _wrap_initialize(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def initialize(connection: Any) -> Any:
            self._initializing = True
            try:
                return original(connection)
            finally:
                self._initializing = False

        return initialize

    def _wrap(self, original: Callable[..., Any], interpolated: bool) -> Callable[..., Any]:
        begin, run = self._begin, self._run

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            execution = begin(statement, interpolated)
            if execution is None:
                return original(cursor, statement, parameters, context)
            return run(execution, original, cursor, execution.text, parameters, context)

        return do_execute

    def _wrap_no_params(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            # No parameters are given to the driver at all, so none looks for a "%".
            execution = self._begin(statement, False)
            if execution is None:
                return original(cursor, statement, context)
            return self._run(execution, original, cursor, execution.text, context)

        return do_execute_no_params

    def _wrap_many(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def do_executemany(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            # The body of an executemany is rewritten by drivers (psycopg2's execute_values), so it gets no comment.
            execution = self._begin(statement, False, many=parameters)
            if execution is None:
                return original(cursor, statement, parameters, context)
            return self._run(execution, original, cursor, statement, parameters, context)

        return do_executemany

    def _begin(self, text: str, interpolated: bool, many: Any = None) -> _Execution | None:
        """Prepare an execution; None when there is nothing to do for it."""
        spans, comments = switches.spans, switches.comments
        if (spans is None and comments == "off") or self._initializing:
            return None
        try:
            current = otel_context.get_current()
            if current.get(_SUPPRESS_INSTRUMENTATION_KEY) or current.get("suppress_instrumentation"):
                return None
            statement = self._statements.of(text)
            execution = _Execution(self, statement, text, current)
            if spans is not None:
                attributes: dict[str, Any] = statement.attributes
                name = statement.name
                if many is not None:
                    attributes = {**attributes, "db.operation.batch.size": len(many)}
                    name = f"BATCH {name}"
                execution.span = spans.tracer.start_span(name, current, SpanKind.CLIENT, attributes)
            if comments != "off" and many is None and statement.commentable:
                correlation = context.current(current)
                if correlation is not None and (
                    comments == "always" or self._budget.free or self._budget.pays(statement.usual)
                ):
                    execution.text = self._commented(text, correlation, execution.span, current, interpolated)
            return execution
        except Exception:
            guard.failed("the SQL statement")
            return None

    def _commented(
        self, text: str, correlation: context.Correlation, span: trace.Span | None, current: Context, interpolated: bool
    ) -> str:
        tags: dict[str, object] = dict(correlation.tags())
        tags["db_driver"] = self._driver
        tags["request_id"] = correlation.request_id
        linked = (span or trace.get_current_span(current)).get_span_context()
        # An unsampled trace is not in the trace store, so there is nothing to link to.
        if linked.is_valid and linked.trace_flags & 1:
            tags["traceparent"] = comment.traceparent(linked.trace_id, linked.span_id, linked.trace_flags)
            if linked.trace_state:
                tags["tracestate"] = linked.trace_state.to_header()
        return comment.attach(comment.comment(tags), text, interpolated)

    def _run(self, execution: _Execution, original: Callable[..., Any], *args: Any) -> Any:
        started = perf_counter()
        try:
            result = original(*args)
        except BaseException as error:
            execution.failed(perf_counter() - started, error)
            raise
        execution.done(perf_counter() - started)
        return result

    def _make_metric_attributes(self, operation: str, error_type: str | None) -> dict[str, Any]:
        attributes = {**self._base, "db.operation.name": operation}
        if error_type is not None:
            attributes["error.type"] = error_type
        return attributes


class _Execution:
    """One execution of a statement."""

    __slots__ = ("_current", "_dialect", "_statement", "span", "text")

    def __init__(self, dialect: _Dialect, statement: Statement, text: str, current: Context) -> None:
        self._dialect = dialect
        self._statement = statement
        self._current = current
        self.span: trace.Span | None = None
        self.text = text

    def done(self, seconds: float) -> None:
        try:
            statement = self._statement
            self._dialect._budget.took(statement.usual, seconds)
            if self.span is not None:
                self._record(seconds, None)
                self.span.end()
        except Exception:
            guard.failed("the end of a SQL statement")

    def failed(self, seconds: float, error: BaseException) -> None:
        try:
            span = self.span
            if span is None:
                return
            cause = _drivers_own(error)
            kind = type(cause)
            error_type = (
                kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            )
            self._record(seconds, error_type)
            if span.is_recording():
                attributes = {"error.type": error_type}
                state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
                if isinstance(state, str):
                    attributes["db.response.status_code"] = state
                span.set_attributes(attributes)
                # Without the message: it has the values of the row ("Key (email)=(...) already exists").
                span.set_status(StatusCode.ERROR)
            span.end()
        except Exception:
            guard.failed("the end of a SQL statement")

    def _record(self, seconds: float, error_type: str | None) -> None:
        spans = switches.spans
        if spans is not None and self.span is not None:
            attributes = self._dialect._metric_attributes(self._statement.operation, error_type)
            spans.duration.record(seconds, attributes, trace.set_span_in_context(self.span, self._current))


def _drivers_own(error: BaseException) -> BaseException:
    """The driver's exception; SQLAlchemy's adapters of async drivers raise one of their own because of it."""
    if type(error).__module__.startswith("sqlalchemy.") and error.__cause__ is not None:
        return error.__cause__
    return error
