"""One log format for all of a process: JSON for machines, or a readable line, each with the IDs."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from otel_cc.error_type import type_name

NAMES = ("request_id", "trace_id", "span_id")

# Where a record keeps what a queue's handler makes one text of, before it hands the record to its listener.
_EXCEPTION = "_otel_cc_exception"
_MESSAGE = "_otel_cc_message"

# Everything that logging itself puts on a record, and uvicorn's copy of the message with escape codes.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName", *NAMES}
_KEYS = frozenset({"timestamp", "level", "logger", "message", "exception", "stack", *NAMES})
_OF_EVENTS = _KEYS | {"event", "exc_info", "stack_info"}

# An escape of JSON: a pair of surrogates, a surrogate alone, or any other.
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..|\\.")


class Formatter(logging.Formatter):
    """The base of both formats."""

    def time(self, record: logging.LogRecord) -> str:
        """The record's time as RFC 3339 in UTC, with milliseconds."""
        try:
            moment = datetime.fromtimestamp(record.created, timezone.utc)
        except Exception:
            moment = datetime.now(timezone.utc)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

    def message(self, record: logging.LogRecord) -> str:
        """The message; a record whose arguments do not fit its text is shown as it is, not lost."""
        found = record.__dict__.get(_MESSAGE)
        if found is not None:
            return _text(found)
        event = _event(record)
        if event is not None:
            return _text(event.get("event", ""))
        try:
            return record.getMessage()
        except Exception:
            return f"{_text(record.msg)} {_text(record.args)}"


class JsonFormatter(Formatter):
    """Each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        values = record.__dict__
        line: dict[str, Any] = {
            "timestamp": self.time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.message(record),
        }
        for name in NAMES:
            line[name] = _text(values.get(name, ""))
        found = exception(record)
        if found is not None:
            line["exception"] = found
        if record.stack_info:
            line["stack"] = record.stack_info
        for name, value in _extras(record):
            # "extra.level" is the application's own, beside ours.
            line[f"extra.{name}" if name in _KEYS else name] = value
        try:
            text = json.dumps(line, default=_text, allow_nan=False)
        except Exception:
            # Cyclic, not JSON's keys, or not a number: each such value is written as text, the record is not lost.
            text = json.dumps({name: _plain(value) for name, value in line.items()})
        if "\\ud" in text:
            # Half a pair of surrogates is no text: many parsers would refuse the whole line.
            text = _ESCAPE.sub(lambda escape: "\\ufffd" if len(escape[0]) == 6 else escape[0], text)
        return text


class TextFormatter(Formatter):
    """Each record as a line that a person reads, with the request ID in brackets; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        request_id = record.__dict__.get("request_id") or "-"
        message = self.message(record).rstrip("\r\n")
        for key, value in (_event(record) or {}).items():
            if key not in _OF_EVENTS:
                message += f" {_text(key)}={_text(value)}"
        line = f"{self.time(record)} {record.levelname} {record.name} [{request_id}] {message}"
        if "\n" in line or "\r" in line:
            line = line.replace("\r", "\\r").replace("\n", "\\n")
        found = exception(record)
        if found is not None:
            line += "\n" + found["stacktrace"].rstrip("\n")
        if record.stack_info:
            line += "\n" + record.stack_info
        return line


def exception(record: logging.LogRecord) -> dict[str, str] | None:
    """Type, message and stack trace of the exception of a record."""
    kept: dict[str, str] | None = record.__dict__.get(_EXCEPTION)
    if kept is not None:
        return kept
    info: Any = record.exc_info
    if info and not isinstance(info, tuple):
        info = (type(info), info, info.__traceback__) if isinstance(info, BaseException) else sys.exc_info()
    if info and info[0] is not None:
        kind, error = info[0], info[1]
        name = type_name(kind)
        try:
            stack = "".join(traceback.format_exception(*info))
        except Exception:
            stack = f"{name}: {_text(error)}\n"
        return {"type": name, "message": _text(error), "stacktrace": stack}
    if record.exc_text:
        # It came from another process, as text: its last line says what it was.
        kind, _, message = record.exc_text.rstrip().rpartition("\n")[2].partition(": ")
        return {"type": kind, "message": message, "stacktrace": record.exc_text}
    return None


def keep_exception(record: logging.LogRecord, formatter: Formatter) -> None:
    """Keep message and exception apart on a record that a queue's handler is about to make one text of."""
    record.__dict__[_MESSAGE] = formatter.message(record)
    record.__dict__[_EXCEPTION] = exception(record)


def _event(record: logging.LogRecord) -> dict[str, Any] | None:
    """The event of structlog that is on its way to its ProcessorFormatter, and ended up at another formatter."""
    return record.msg if "_logger" in record.__dict__ and isinstance(record.msg, dict) else None


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """What the application has put on a record, and what Celery has."""
    for key, value in (_event(record) or {}).items():
        if key not in _OF_EVENTS:
            yield _text(key), value
    for key, value in record.__dict__.items():
        name = _text(key)
        if key in _STANDARD or name.startswith("_"):
            continue
        if name == "data" and record.name.startswith("celery.") and isinstance(value, Mapping):
            # Arguments and return value of the task are in it, too, which its message does not show.
            yield from (("task_name", value.get("name")), ("task_id", value.get("id")))
        else:
            yield name, value


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def _plain(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
        return value
    except Exception:
        return _text(value)
