"""Who holds a thread: a framework that knows the work of a stack frame says so here, so that nobody imports it."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType

Finder = Callable[[FrameType], "str | None"]

_finders: list[Finder] = []


def ask_for_route(finder: Finder) -> Callable[[], None]:
    """Ask ``finder`` for the route that the stack of a frame works for; what it returns takes it back.

    :param finder: gets the innermost frame of a thread that goes on meanwhile
    """
    _finders.append(finder)
    return lambda: _finders.remove(finder)


def route(frame: FrameType) -> str | None:
    """The route that a thread works for, or None.

    :param frame: its innermost frame
    """
    for finder in _finders:
        found = finder(frame)
        if found is not None:
            return found
    return None
