"""One execution of a statement: what is recorded of it when the database has answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode

from otel_cc import guard, metrics
from otel_cc.error_type import type_name
from otel_cc.sql.budget import Budget
from otel_cc.sql.statement import Statement
from otel_cc.tracing.tracer import get_tracer

_NOTHING = Context()


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


class Records:
    """Where the executions of one engine are recorded.

    :param base: attributes of everything that the engine does
    :param budget: its governor
    """

    def __init__(self, base: dict[str, Any], budget: Budget) -> None:
        self._base = base
        self.budget = budget
        # One object for each combination: the histogram knows them by it.
        self.attributes = lru_cache(maxsize=256)(self._make_attributes)

    def _make_attributes(self, operation: str, error_type: str | None) -> dict[str, Any]:
        attributes = {**self._base, "db.operation.name": operation}
        if error_type is not None:
            attributes["error.type"] = error_type
        return attributes


class Execution:
    """One execution.

    :param records: of the engine
    :ivar text: what the driver gets
    :ivar span: its CLIENT span, or None
    """

    __slots__ = ("_commented", "_records", "_statement", "span", "text")

    def __init__(self, records: Records, statement: Statement, text: str) -> None:
        self._records = records
        self._statement = statement
        self._commented = False
        self.span: trace.Span | None = None
        self.text = text

    def add_comment(self, text: str) -> None:
        """Put a comment in front of the text."""
        self.text = f"{text} {self.text}"
        self._commented = True

    def run(self, original: Callable[..., Any], *args: Any) -> Any:
        """Let the driver execute it, and record what came of it."""
        started = perf_counter()
        try:
            result = original(*args)
        except BaseException as error:
            self._failed(perf_counter() - started, error)
            raise
        self._done(perf_counter() - started)
        return result

    def _done(self, seconds: float) -> None:
        span = self.span
        try:
            try:
                budget = self._records.budget
                if not budget.free:
                    budget.took(self._statement.usual, seconds, self._commented)
                if span is not None:
                    self._record(span, seconds, None)
            finally:
                if span is not None:
                    span.end()
        except Exception:
            guard.failed("the end of a SQL statement")

    def _failed(self, seconds: float, error: BaseException) -> None:
        span = self.span
        if span is None:
            return
        try:
            try:
                cause = _drivers_own(error)
                error_type = type_name(type(cause))
                if span.is_recording():
                    attributes = {"error.type": error_type}
                    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
                    if isinstance(state, str):
                        attributes["db.response.status_code"] = state
                    span.set_attributes(attributes)
                    # Without the message: it has the values of the row ("Key (email)=(...) already exists").
                    span.set_status(StatusCode.ERROR)
                self._record(span, seconds, error_type)
            finally:
                span.end()
        except Exception:
            guard.failed("the end of a SQL statement")

    def _record(self, span: trace.Span, seconds: float, error_type: str | None) -> None:
        spans = switches.spans
        if spans is not None:
            attributes = self._records.attributes(self._statement.operation, error_type)
            # The statement's span is never current, but it is the one to which the exemplar leads.
            spans.duration.record(seconds, attributes, trace.set_span_in_context(span, _NOTHING))


def _drivers_own(error: BaseException) -> BaseException:
    """The driver's exception; SQLAlchemy's adapters of async drivers raise one of their own because of it."""
    if type(error).__module__.startswith("sqlalchemy.") and error.__cause__ is not None:
        return error.__cause__
    return error
