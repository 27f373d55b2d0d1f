"""The IDs on every log record: what leads from a log line to the trace, and from a request ID to its log lines.

``logging.Logger.makeRecord`` is wrapped rather than the record factory replaced, because a record that has the fields
already refuses ``extra={"request_id": ...}`` with a KeyError; here the application's own value stays. Records that were
made another way get the fields from ``logging.Handler.handle``, before any formatter asks for them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation import _SPAN_KEY

from otel_cc import guard, log_format, log_start, log_terminal, settings, structlog_fields
from otel_cc.context import MARK, current
from otel_cc.log_format import NAMES

Fields = tuple[str, str, str]
NOTHING: Fields = ("", "", "")

# How many causes and members of groups are searched for the exception that left a request.
_SEARCH_LIMIT = 32

_originals: dict[tuple[Any, str], Any] = {}


def install() -> None:
    """Put the fields on every record, and the format that the settings ask for on the terminal."""
    log_start.make_ours_visible()
    options = settings.get()
    if _originals:
        return
    if options.log_fields:
        _replace(logging.Logger, "makeRecord", _make_record)
        _replace(logging, "makeLogRecord", _make_log_record)
        _replace(logging.Handler, "handle", _handle)
        structlog_fields.install(fields)
    if options.log_format != "keep":
        formatter = log_format.JsonFormatter() if options.log_format == "json" else log_format.TextFormatter()
        _replace(logging.Handler, "format", lambda original: log_terminal.on_terminals(original, formatter))


def uninstall() -> None:
    """Undo :func:`install`."""
    for (owner, name), original in _originals.items():
        setattr(owner, name, original)
    _originals.clear()
    structlog_fields.uninstall()
    log_start.undo()


def _replace(owner: Any, name: str, wrapped: Any) -> None:
    original = _originals[owner, name] = getattr(owner, name)
    setattr(owner, name, wrapped(original))


def fields(error: BaseException | None = None) -> Fields:
    """Request ID, trace ID and span ID of what is running; empty strings outside of a request or task.

    :param error: the exception that is being logged, which may have left its request already
    """
    context = otel_context.get_current()
    correlation = current(context)
    if correlation is None:
        # The server's own error page is logged while the exception is handled, without naming it.
        left = sys.exc_info()[1] if error is None else error
        if left is not None:
            found = _left_request(left)
            if found is not None:
                return found
        if not context:
            return NOTHING
    request_id = "" if correlation is None else correlation.request_id
    # Read as trace.get_current_span reads it, without its check of an abstract class; and bytes.hex takes a quarter of the
    # time of formatting a number: records are many.
    span: Any = context.get(_SPAN_KEY)
    if span is not None:
        ids = span.get_span_context()
        if ids.is_valid:
            return request_id, ids[0].to_bytes(16, "big").hex(), ids[1].to_bytes(8, "big").hex()
    return request_id, "" if correlation is None else correlation.trace_id.to_bytes(16, "big").hex(), ""


def _left_request(error: BaseException) -> Fields | None:
    """The IDs that the request left on its exception, on one that caused it, or on a member of a group."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _SEARCH_LIMIT:
        candidate = waiting.pop(0)
        if id(candidate) in seen or not isinstance(candidate, BaseException):
            continue
        seen.add(id(candidate))
        mark: Fields | None = candidate.__dict__.get(MARK)
        if mark is not None:
            return mark
        waiting += (candidate.__cause__, candidate.__context__, *getattr(candidate, "exceptions", ()))
    return None


def _fill(record: logging.LogRecord) -> None:
    """Set those fields that the record does not have."""
    values = record.__dict__
    info = record.exc_info
    request_id, trace_id, span_id = fields(info[1] if info and isinstance(info, tuple) else None)
    if "_logger" in values and type(record.msg) is dict:
        # An event of structlog's on its way to its ProcessorFormatter: two different IDs of one line help nobody.
        event = record.msg
        request_id = event.get("request_id", request_id)
        trace_id = event.get("trace_id", trace_id)
        span_id = event.get("span_id", span_id)
    values.setdefault("request_id", request_id)
    values.setdefault("trace_id", trace_id)
    values.setdefault("span_id", span_id)


def _make_record(original: Any) -> Any:
    def makeRecord(
        self: logging.Logger,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Any = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        record: logging.LogRecord = original(self, name, level, fn, lno, msg, args, exc_info, func, extra, sinfo)
        try:
            _fill(record)
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


def _handle(original: Any) -> Any:
    def handle(self: logging.Handler, record: logging.LogRecord) -> Any:
        # A logger of the application's own may make its records without the wrapped method.
        if "span_id" not in record.__dict__ or "request_id" not in record.__dict__:
            try:
                _fill(record)
            except Exception:
                guard.failed("the log record")
        return original(self, record)

    return handle
