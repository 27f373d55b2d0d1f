"""What goes into attributes: text from messages that anybody may have written."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 255
# On RabbitMQ with quorum queues Celery puts the delay of a task in front of its routing key, in 28 binary digits; kombu
# before 5.7 does so again for each retry.
_DELAY = re.compile(r"(?:(?:[01]\.){28})+")


def text(value: Any) -> str | None:
    """A value of a message as an attribute: short, and encodable, since one lone surrogate fails a whole export.

    :return: None for anything but a string that is not empty
    """
    if not isinstance(value, str) or not value:
        return None
    short: str = value[:_LONGEST]
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")


def destination_of(routing_key: Any) -> str | None:
    """Where a message goes: its routing key, which is the queue unless the application routes by itself.

    :return: without the delay, which would be a destination of its own for each number of seconds
    """
    return text(_DELAY.sub("", routing_key) if isinstance(routing_key, str) else None)
