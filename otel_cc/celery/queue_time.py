"""When a message was published: a header of our own, because a Celery message does not say it (celery #5696).

It is written at every publish and every retry. Who can reach the broker can write it, so what is read is checked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from otel_cc.celery import message

HEADER = "otel_cc_published_at"

# What a clock or a queue may do; beyond it the header is a mistake or an attack, and one such value would spoil a sum.
_OLDEST = 30 * 86400.0
_FROM_THE_FUTURE = 3600.0
_LONGEST = 32


def write(headers: dict[str, Any]) -> None:
    """Put the time into the headers of a message, as text: not every broker keeps a number as it is."""
    headers[HEADER] = f"{time.time():.6f}"


def waited(request: Mapping[str, Any], eta: Any, started: float) -> float | None:
    """How long a task waited for its start, in seconds, or None when the message does not say it.

    :param request: the headers of the message
    :param eta: before which Celery must not start the task, an aware datetime or None; a wait until then is wanted
    :param started: Unix seconds
    """
    value = message.field(request, HEADER)
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    try:
        published = float(value)
        due = published if eta is None else max(published, eta.timestamp())
    except (ValueError, OverflowError, OSError, AttributeError):
        return None
    # Also false for what is not a number.
    if not -_FROM_THE_FUTURE <= started - published <= _OLDEST:
        return None
    # Clocks differ, and Celery may start a task a little before its eta.
    return max(0.0, started - due)
