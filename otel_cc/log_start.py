"""Our own log lines are seen, the start line above all: also where the application configures no logging, or hides us."""

from __future__ import annotations

import logging
import sys
from typing import Any


class _Ours(logging.Logger):
    """Our logger, which a logging configuration of the application's does not switch off by accident.

    ``logging.config`` disables every logger that exists already and is not named, unless it is told not to; Alembic's
    template does so. Whoever wants silence sets the level of ``otel_cc``.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable before Python 3.11
    """Shows our own lines where no other handler does: Python's last resort shows warnings only."""

    def __init__(self) -> None:
        # Not the constructor of StreamHandler, which sets the stream once for all.
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    def handle(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            # OpenTelemetry's own handler exports records, it shows none.
            if any(other is not self and type(other).__name__ != "LoggingHandler" for other in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return bool(super().handle(record))


_undo: list[Any] = []


def make_ours_visible() -> None:
    """Show our lines from INFO on, unless the application has set another level."""
    if _undo:
        return
    logger = logging.getLogger("otel_cc")
    handler = _LastResort()
    logger.addHandler(handler)
    _undo.append(lambda: logger.removeHandler(handler))
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
        _undo.append(lambda: logger.setLevel(logging.NOTSET))
    if type(logger) is logging.Logger:
        logger.__class__ = _Ours
        _undo.append(lambda: setattr(logger, "__class__", logging.Logger))


def undo() -> None:
    """Undo :func:`make_ours_visible`."""
    while _undo:
        _undo.pop()()
