"""One log format for all of a process: JSON for machines, or a readable line, each with the IDs."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import datetime, timezone
from typing import Any

from otel_cc.error_type import type_name

# Everything that logging itself puts on a record, and uvicorn's copy of the message with escape codes.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message", "asctime", "color_message", "request_id", "trace_id", "span_id", "taskName",
}  # fmt: skip


class Formatter(logging.Formatter):
    """The base of both formats."""

    def time(self, record: logging.LogRecord) -> str:
        """The record's time as RFC 3339 in UTC, with milliseconds."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def message(self, record: logging.LogRecord) -> str:
        """The message; a record whose arguments do not fit its text is shown as it is, not lost."""
        try:
            return record.getMessage()
        except Exception:
            return f"{record.msg} {record.args}"


class JsonFormatter(Formatter):
    """Each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "timestamp": self.time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.message(record),
            "request_id": getattr(record, "request_id", ""),
            "trace_id": getattr(record, "trace_id", ""),
            "span_id": getattr(record, "span_id", ""),
        }
        info = record.exc_info
        if info and info[0] is not None:
            kind, error = info[0], info[1]
            values["exception"] = {
                "type": type_name(kind),
                "message": _text(error),
                "stacktrace": "".join(traceback.format_exception(*info)),
            }
        elif record.exc_text:
            values["exception"] = {"stacktrace": record.exc_text}
        if record.stack_info:
            values["stack"] = record.stack_info
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if extra:
            values = {**{str(name): value for name, value in extra.items()}, **values}
        try:
            return json.dumps(values, default=_text, allow_nan=False)
        except Exception:
            # Cyclic, not JSON's keys, or not a number: each such value is written as text, the record is not lost.
            return json.dumps({name: _plain(value) for name, value in values.items()})


class TextFormatter(Formatter):
    """Each record as a line that a person reads, with the request ID in brackets; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        request_id = getattr(record, "request_id", "") or "-"
        line = f"{self.time(record)} {record.levelname} {record.name} [{request_id}] {self.message(record)}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        elif record.exc_text:
            line += "\n" + record.exc_text
        if record.stack_info:
            line += "\n" + record.stack_info
        return line


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
