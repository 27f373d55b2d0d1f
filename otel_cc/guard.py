"""Telemetry never breaks the application: every hop of the data path reports its own failures here and goes on.

A failure is logged once per place, with its traceback, so that a broken hop on the hot path cannot flood the log.
Tests set ``OTEL_CC_STRICT=true``: then the failure is re-raised, because a guard that hides bugs from the tests is worse
than none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("otel_cc")

FAILED = "otel-cc failed in %s; the application goes on without it there (logged once)."

_seen: set[str] = set()


def strict() -> bool:
    """Whether failures of our own are re-raised (tests only)."""
    return os.environ.get("OTEL_CC_STRICT", "").lower() == "true"


def failed(place: str) -> None:
    """Report the exception being handled; call it from an ``except`` block.

    :param place: the hop that failed, as a reader of the log would name it ("the response header")
    :raises Exception: the exception being handled, only when ``OTEL_CC_STRICT=true``
    """
    if strict():
        raise  # noqa: PLE0704  the bare raise re-raises the caller's exception on purpose
    warn_once(place, FAILED, place, exc_info=True)


def warn_once(key: str, message: str, *args: object, exc_info: bool = False) -> None:
    """Log a warning the first time that ``key`` is seen in this process."""
    if key not in _seen:
        _seen.add(key)
        logger.warning(message, *args, exc_info=exc_info)


@contextmanager
def guarded(place: str) -> Iterator[None]:
    """Run a block of our own that must not raise into the application (not for hot paths: it costs a generator)."""
    try:
        yield
    except Exception:
        failed(place)
