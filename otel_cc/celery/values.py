"""What goes into attributes: text from messages that anybody may have written."""

from __future__ import annotations

from typing import Any

_LONGEST = 255


def text(value: Any) -> str | None:
    """A value of a message as an attribute: short, and encodable, since one lone surrogate fails a whole export.

    :return: None for anything but a string that is not empty
    """
    if not isinstance(value, str) or not value:
        return None
    short: str = value[:_LONGEST]
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")
