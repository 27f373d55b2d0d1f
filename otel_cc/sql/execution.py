"""One execution of a statement: what is recorded of it when the database has answered."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from opentelemetry import trace

from otel_cc import guard
from otel_cc.sql.records import Records
from otel_cc.sql.statement import Statement
from otel_cc.sql.switches import switches

_UNSIGNED = 2**63
_RECORDED = "__otel_cc_recorded__"


def is_recorded(error: BaseException) -> bool:
    """Whether an exception was recorded as the failure of an execution."""
    return hasattr(error, _RECORDED)


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

    def run(self, original: Callable[..., Any], cursor: Any, *args: Any) -> Any:
        """Let the driver execute it, and record what came of it."""
        started = perf_counter()
        try:
            result = original(cursor, *args)
        except BaseException as error:
            self._failed(perf_counter() - started, error)
            raise
        self._done(perf_counter() - started, cursor)
        return result

    def _done(self, seconds: float, cursor: Any) -> None:
        span, records = self.span, self._records
        try:
            try:
                budget = records.budget
                if not budget.free:
                    budget.took(self._statement.usual, seconds, self._commented)
                if span is not None:
                    self._record(span, seconds, None)
            finally:
                if span is not None:
                    span.end()
            # An attribute on every driver; -1 where it does not know, or would have to fetch them first. PyMySQL's
            # unbuffered cursors say the same without a sign: 2**64 - 1, which no counter of OTLP can hold.
            rows = getattr(cursor, "rowcount", -1)
            if rows.__class__ is int and 0 < rows < _UNSIGNED:
                records.rows(self._statement.operation, rows)
        except Exception:
            guard.failed("the end of a SQL statement")

    def _failed(self, seconds: float, error: BaseException) -> None:
        span = self.span
        try:
            setattr(error, _RECORDED, True)
            try:
                error_type = self._records.failed(self._statement.operation, error, span)
                if span is not None:
                    self._record(span, seconds, error_type)
            finally:
                if span is not None:
                    span.end()
        except Exception:
            guard.failed("the end of a SQL statement")

    def _record(self, span: trace.Span, seconds: float, error_type: str | None) -> None:
        spans = switches.spans
        if spans is not None:
            spans.record(span, seconds, self._records.attributes(self._statement.operation, error_type))
