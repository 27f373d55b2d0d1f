"""What is recorded of an operation, whichever it is: the labels of its duration, and what a failure adds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import StatusCode

from otel_cc.error_type import type_name
from otel_cc.metrics import bounded
from otel_cc.metrics.catalogue import OTHER
from otel_cc.sql.budget import Budget
from otel_cc.sql.error_class import CONNECTION, error_class
from otel_cc.sql.switches import switches


class Records:
    """Where the operations of one engine are recorded.

    :param base: attributes of everything that the engine does
    :param target: what it works on, for the span names
    :param budget: its governor
    """

    def __init__(self, base: dict[str, Any], target: str, budget: Budget) -> None:
        self.base = base
        self.target = target
        self.budget = budget
        # One object for each combination: the histogram knows them by it.
        self.attributes = lru_cache(maxsize=256)(self._make_attributes)
        self._of_rows = lru_cache(maxsize=64)(self._make_of_rows)

    def rows(self, operation: str, number: int) -> None:
        """Count the rows that a statement returned or changed."""
        measures = switches.measures
        if measures is not None:
            measures.rows.add(number, self._of_rows(operation))

    def failed(self, operation: str, error: BaseException, span: trace.Span | None) -> str:
        """Count a failure and write it on its span.

        :param span: of the operation, or None
        :return: what the failure is called
        """
        cause = _drivers_own(error)
        error_type = type_name(type(cause))
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if not isinstance(state, str):
            state = None
        measures = switches.measures
        if measures is not None:
            # Whatever the reason is (a wrong password, too many of them, nobody listens): there is no connection.
            kind = CONNECTION if operation == "CONNECT" else error_class(cause, state)
            few = self._of_rows(operation)
            error_label = bounded("error.type", error_type)
            measures.errors.add(1, {**few, "db.error.class": kind, "error.type": error_label})
        if span is not None and span.is_recording():
            attributes = {"error.type": error_type}
            if state is not None:
                attributes["db.response.status_code"] = state
            span.set_attributes(attributes)
            # Without the message: it has the values of the row ("Key (email)=(...) already exists").
            span.set_status(StatusCode.ERROR)
        return error_type

    def _make_attributes(self, operation: str, error_type: str | None) -> dict[str, Any]:
        attributes = {name: _bounded(name, value) for name, value in self.base.items()}
        attributes["db.operation.name"] = bounded("db.operation.name", operation)
        if error_type is not None:
            attributes["error.type"] = bounded("error.type", error_type)
        return attributes

    def _make_of_rows(self, operation: str) -> dict[str, Any]:
        attributes = self.attributes(operation, None)
        return {name: attributes[name] for name in _FEW if name in attributes}


# What errors and rows have of an operation's attributes.
_FEW = ("db.system.name", "db.namespace", "db.operation.name")


def _bounded(name: str, value: str | int) -> str | int:
    return value if bounded(name, str(value)) != OTHER else OTHER


def _drivers_own(error: BaseException) -> BaseException:
    """The driver's exception; SQLAlchemy's adapters of async drivers raise one of their own because of it."""
    if type(error).__module__.startswith("sqlalchemy.") and error.__cause__ is not None:
        return error.__cause__
    return error
