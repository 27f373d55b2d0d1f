"""The IDs on every event of structlog, whatever its processors are; what the application bound itself wins.

structlog builds an event in one place, which is wrapped when the application imports it. Records of ``logging`` that its
``ProcessorFormatter`` renders show the IDs that are on the record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from otel_cc import guard, report
from otel_cc.import_hook import on_import
from otel_cc.log_format import NAMES

Fields = Callable[[BaseException | None], tuple[str, str, str]]

_installed: list[Fields] = []
_originals: dict[tuple[Any, str], Any] = {}


def install(fields: Fields) -> None:
    """Wait for the import of structlog.

    :param fields: tells the three IDs of what is running, or of an exception that left it
    """
    _installed[:] = [fields]
    on_import("structlog", _hook)


def uninstall() -> None:
    """Undo :func:`install`."""
    _installed.clear()
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()


def _hook(structlog: Any) -> None:
    if not _installed or _originals:
        return
    try:
        base, formatter = structlog.BoundLoggerBase, structlog.stdlib.ProcessorFormatter
        process, init = base._process_event, formatter.__init__
        bound = structlog.contextvars._CONTEXT_VARS
    except AttributeError as error:
        report.skipped("structlog", f"this version is not known ({error}), so its events have no IDs of their own")
        return
    _originals.update({(base, "_process_event"): process, (formatter, "__init__"): init})
    base._process_event = _process_event(process, _installed[0], bound)
    formatter.__init__ = _init(init)
    report.instrumented("structlog", "log fields")


def _process_event(original: Any, fields: Fields, variables: Mapping[str, ContextVar[Any]]) -> Any:
    def _process_event(self: Any, method_name: str, event: Any, event_kw: dict[str, Any]) -> Any:
        try:
            _fill(event_kw, self._context, variables, fields)
        except Exception:
            guard.failed("the structlog event")
        return original(self, method_name, event, event_kw)

    return _process_event


def _fill(
    event: dict[str, Any], context: Mapping[str, Any], variables: Mapping[str, ContextVar[Any]], fields: Fields
) -> None:
    error = event.get("exc_info")
    if error is not None and not isinstance(error, BaseException):
        error = error[1] if isinstance(error, tuple) else sys.exc_info()[1]
    for name, value in zip(NAMES, fields(error), strict=True):
        if name not in event and name not in context:
            # merge_contextvars would not overwrite what the event has already; an ellipsis is structlog's "not bound".
            variable = variables.get(f"structlog_{name}")
            bound = ... if variable is None else variable.get(...)
            event[name] = value if bound is ... else bound


def _init(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.foreign_pre_chain = (*(self.foreign_pre_chain or ()), _of_record)

    return __init__


def _of_record(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """The last processor before the rendering of a record that structlog did not make."""
    record = event.get("_record")
    for name in NAMES:
        if name not in event and hasattr(record, name):
            event[name] = getattr(record, name)
    return event
