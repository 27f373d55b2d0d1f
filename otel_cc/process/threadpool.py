"""The threads that run synchronous endpoints, dependencies and file access: how many work, may work, and are waited for."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from otel_cc.metrics import Values

# AnyIO loads it when the first thread is needed; that costs 25 ms or more, which an application without any never pays.
_BACKEND = "anyio._backends._asyncio"
# What AnyIO allows until somebody changes it: https://anyio.readthedocs.io/en/stable/threads.html
_DEFAULT = 40


class ThreadPool:
    """The default limiter of AnyIO, which belongs to an event loop.

    :param loop: it runs in the current thread
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limiter: Any = None
        self._asked = False

    def used(self) -> Values:
        """Threads that work."""
        limiter = self._found()
        return [(0 if limiter is None else limiter.borrowed_tokens, {})]

    def maximum(self) -> Values:
        """Threads that may work, unless there is no limit."""
        limiter = self._found()
        total = _DEFAULT if limiter is None else limiter.total_tokens
        return [(total, {})] if total != float("inf") else []

    def pending(self) -> Values:
        """Calls that wait for one of them."""
        limiter = self._found()
        return [(0 if limiter is None else limiter.statistics().tasks_waiting, {})]

    def _found(self) -> Any:
        """The limiter, or None as long as there is none; only its loop can tell, which does so until the next time."""
        if not self._asked and _BACKEND in sys.modules and self._loop.is_running():
            self._asked = True
            look = self._look()
            try:
                asyncio.run_coroutine_threadsafe(look, self._loop)
            except RuntimeError:
                # The loop was closed at this moment.
                look.close()
        return self._limiter

    async def _look(self) -> None:
        from anyio.to_thread import current_default_thread_limiter

        self._limiter = current_default_thread_limiter()
