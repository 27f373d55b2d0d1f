"""Which handlers write in our format: those that write to standard output and error, whoever made them.

It is decided when a record is written, not when a handler is configured: so it holds whatever uvicorn, gunicorn, Celery
or the application configure later, and nothing of their configuration is changed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from stat import S_ISREG
from typing import Any

from otel_cc import guard
from otel_cc.log_format import Formatter, keep_exception


def on_terminals(original: Any, formatter: Formatter) -> Any:
    """``logging.Handler.format`` that writes one format to standard output and error.

    :param original: the method that is replaced
    :param formatter: what formats there
    """

    def format(self: logging.Handler, record: logging.LogRecord) -> str:
        try:
            chosen = self.formatter
            stream = getattr(self, "stream", None)
            plan = self.__dict__.get("_otel_cc_plan")
            if plan is None or plan[0] is not chosen or plan[1] is not stream:
                plan = self.__dict__["_otel_cc_plan"] = (chosen, stream, _is_ours(self, chosen, stream))
            if plan[2]:
                if type(chosen).__name__ == "TaskFormatter":
                    _name_the_task(record)
                return formatter.format(record)
            if record.exc_info and _is_queue(self):
                keep_exception(record, formatter)
        except Exception:
            guard.failed("the log format")
        text: str = original(self, record)
        return text

    return format


def _is_ours(handler: logging.Handler, formatter: logging.Formatter | None, stream: Any) -> bool:
    return _is_terminal(handler, stream) and not _is_structured(formatter)


def _is_terminal(handler: logging.Handler, stream: Any) -> bool:
    """Whether a handler writes to standard output or error: a file of the application's keeps its own format."""
    if not isinstance(handler, logging.StreamHandler) or type(stream).__module__ == "celery.utils.log":
        # What Celery puts in the place of standard output makes records of its own, which are formatted then.
        return False
    if any(stream is standard for standard in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)):
        return stream is not None
    try:
        status = os.fstat(stream.fileno())
        # A handler on /dev/stdout; a regular file may be anything, where descriptors 1 and 2 were closed once.
        return not S_ISREG(status.st_mode) and any(os.path.samestat(status, os.fstat(number)) for number in (1, 2))
    except (AttributeError, OSError, TypeError, ValueError):
        return False


def _is_structured(formatter: logging.Formatter | None) -> bool:
    """Whether the application chose a structured format itself, such as python-json-logger's or structlog's."""
    if formatter is None:
        return False
    kind = type(formatter)
    if "json" in kind.__name__.lower() or kind.__module__.startswith(("structlog", "pythonjsonlogger", "ecs_logging")):
        return True
    try:
        # Quotes and a line break show whether it writes JSON, or only something that looks like it.
        probe = logging.makeLogRecord({"name": "otel_cc", "levelname": "INFO", "msg": 'a "probe"\n'})
        return isinstance(json.loads(formatter.format(probe)), dict)
    except Exception:
        return False


def _is_queue(handler: logging.Handler) -> bool:
    module = sys.modules.get("logging.handlers")
    return module is not None and isinstance(handler, module.QueueHandler)


def _name_the_task(record: logging.LogRecord) -> None:
    """Keep what Celery's formatter of task loggers would have shown: the name and the ID of the task."""
    state = sys.modules.get("celery._state")
    task = None if state is None else state.get_current_task()
    if task and task.request:
        record.__dict__.setdefault("task_name", task.name)
        record.__dict__.setdefault("task_id", task.request.id)
