"""The IDs on every log record: what leads from a log line to the trace, and from a request ID to its log lines.

``logging.Logger.makeRecord`` is wrapped rather than the record factory replaced, because a record that has the fields
already refuses ``extra={"request_id": ...}`` with a KeyError; here the application's own value stays.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import wrapt
from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_cc import guard, settings
from otel_cc.context import current
from otel_cc.log_format import Formatter, JsonFormatter, TextFormatter

Fields = tuple[str, str, str]
NAMES = ("request_id", "trace_id", "span_id")
NOTHING: Fields = ("", "", "")

# How many causes and members of groups are searched for the exception that left a request.
_SEARCH_LIMIT = 32

_originals: dict[str, Any] = {}


def install() -> None:
    """Put the fields on every record, and the format that the settings ask for on the terminal."""
    _make_ours_visible()
    options = settings.get()
    if options.log_fields and "makeRecord" not in _originals:
        _originals["makeRecord"] = logging.Logger.makeRecord
        _originals["makeLogRecord"] = logging.makeLogRecord
        logging.Logger.makeRecord = _make_record(logging.Logger.makeRecord)  # type: ignore[method-assign]
        logging.makeLogRecord = _make_log_record(logging.makeLogRecord)
        wrapt.register_post_import_hook(_hook_structlog, "structlog._base")
    if options.log_format != "keep" and "format" not in _originals:
        _originals["format"] = logging.Handler.format
        formatter: Formatter = JsonFormatter() if options.log_format == "json" else TextFormatter()
        logging.Handler.format = _format_on_terminals(logging.Handler.format, formatter)  # type: ignore[method-assign]


def uninstall() -> None:
    """Undo :func:`install` (structlog keeps its hook, which does nothing any more)."""
    for name, original in _originals.items():
        setattr({"makeRecord": logging.Logger, "format": logging.Handler}.get(name, logging), name, original)
    _originals.clear()


def fields(error: BaseException | None = None) -> Fields:
    """Request ID, trace ID and span ID of what is running; empty strings outside of a request or task.

    :param error: the exception that is being logged, which may have left its request already
    """
    context = otel_context.get_current()
    correlation = current(context)
    if correlation is None and error is not None:
        found = _left_request(error)
        if found is not None:
            return found
    span = trace.get_current_span(context).get_span_context()
    request_id = "" if correlation is None else correlation.request_id
    if span.is_valid:
        return request_id, f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return request_id, "" if correlation is None else f"{correlation.trace_id:032x}", ""


def _left_request(error: BaseException) -> Fields | None:
    """The IDs that the request left on its exception, on one that caused it, or on a member of a group."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _SEARCH_LIMIT:
        candidate = waiting.pop(0)
        if id(candidate) in seen:
            continue
        seen.add(id(candidate))
        mark: Fields | None = getattr(candidate, "__otel_cc_correlation__", None)
        if mark is not None:
            return mark
        waiting += [e for e in (candidate.__cause__, candidate.__context__) if e is not None]
        waiting += getattr(candidate, "exceptions", ())
    return None


def _make_record(original: Any) -> Any:
    def makeRecord(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = original(self, *args, **kwargs)
        try:
            info = record.exc_info
            found = fields(info[1] if info else None)
            values = record.__dict__
            for name, value in zip(NAMES, found, strict=True):
                if name not in values:
                    values[name] = value
        except Exception:
            guard.failed("the log record")
        return record

    return makeRecord


def _make_log_record(original: Any) -> Any:
    def makeLogRecord(values: dict[str, Any]) -> logging.LogRecord:
        """A record that came from another process: it has the fields of its origin, or empty ones, never ours."""
        record: logging.LogRecord = original(values)
        for name in NAMES:
            record.__dict__.setdefault(name, "")
        return record

    return makeLogRecord


def _format_on_terminals(original: Any, formatter: Formatter) -> Any:
    def format(self: logging.Handler, record: logging.LogRecord) -> str:
        try:
            if _is_terminal(self) and not _is_structured(self.formatter):
                return formatter.format(record)
        except Exception:
            guard.failed("the log format")
        text: str = original(self, record)
        return text

    return format


def _is_terminal(handler: logging.Handler) -> bool:
    """Whether a handler writes to standard output or error: a file of the application's keeps its own format."""
    stream = getattr(handler, "stream", None)
    return stream is not None and stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)


def _is_structured(formatter: logging.Formatter | None) -> bool:
    """Whether the application chose a structured format itself, such as python-json-logger's or structlog's."""
    kind = type(formatter)
    return "json" in kind.__name__.lower() or kind.__module__.startswith(("structlog", "pythonjsonlogger"))


def _hook_structlog(module: Any) -> None:
    cls = getattr(module, "BoundLoggerBase", None)
    original = getattr(cls, "_process_event", None)
    if cls is None or original is None:
        guard.warn_once(
            "structlog", "this version of structlog is not known: its events have no request_id of their own."
        )
        return

    def _process_event(self: Any, method_name: str, event: Any, event_kw: dict[str, Any]) -> Any:
        if _originals:
            try:
                bound = self._context
                info = event_kw.get("exc_info")
                error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info else None
                for name, value in zip(NAMES, fields(error), strict=True):
                    if name not in event_kw and name not in bound:
                        event_kw[name] = value
            except Exception:
                guard.failed("the structlog event")
        return original(self, method_name, event, event_kw)

    cls._process_event = _process_event


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable before Python 3.11
    """Shows our own lines where the application has configured no logging: Python's last resort shows warnings only."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handle(self, record: logging.LogRecord) -> bool:
        # OpenTelemetry's own handler exports records, it shows none.
        shown = [handler for handler in logging.getLogger().handlers if type(handler).__name__ != "LoggingHandler"]
        return False if shown else bool(super().handle(record))


def _make_ours_visible() -> None:
    logger = logging.getLogger("otel_cc")
    if not any(isinstance(handler, _LastResort) for handler in logger.handlers):
        logger.addHandler(_LastResort())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
