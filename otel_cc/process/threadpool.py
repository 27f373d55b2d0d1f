"""The threads that run synchronous endpoints, dependencies and file access: how many work, may work, and are waited for."""

from __future__ import annotations

import sys
from typing import Any

from otel_cc.metrics import Values


class ThreadPool:
    """The default limiter of AnyIO, which belongs to the event loop it is asked for in."""

    def __init__(self, limiter: Any) -> None:
        self._limiter = limiter

    def used(self) -> Values:
        """Threads that work."""
        return [(self._limiter.borrowed_tokens, {})]

    def maximum(self) -> Values:
        """Threads that may work, unless there is no limit."""
        total = self._limiter.total_tokens
        return [(total, {})] if total != float("inf") else []

    def pending(self) -> Values:
        """Calls that wait for one of them."""
        return [(self._limiter.statistics().tasks_waiting, {})]


def current() -> ThreadPool | None:
    """That of the running event loop, or None where AnyIO is not in use."""
    anyio = sys.modules.get("anyio")
    if anyio is None:
        return None
    from anyio.to_thread import current_default_thread_limiter

    return ThreadPool(current_default_thread_limiter())
