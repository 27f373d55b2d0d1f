"""What goes into attributes: names of exception classes, and text from messages that anybody may have written."""

from __future__ import annotations

from typing import Any

_LONGEST = 255


def class_name(error: BaseException) -> str:
    """``error.type``: the class with its module, without it for Python's own."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def text(value: Any) -> str | None:
    """A value of a message as an attribute: short, and encodable, since one lone surrogate fails a whole export.

    :returns: None for anything but a string that is not empty
    """
    if not isinstance(value, str) or not value:
        return None
    short: str = value[:_LONGEST]
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")
