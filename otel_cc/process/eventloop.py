"""The event loop: how late its timers are, and whose code kept it from turning.

A timer in the loop measures how late it is. While it is late, a thread looks which route the loop's thread is working
for: afterwards nobody would know.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from functools import lru_cache
from time import monotonic
from typing import Any

from otel_cc import guard, metrics
from otel_cc.process import blame

# Seconds between two turns of the timer, and between two looks of the thread.
INTERVAL = 0.1
# From how long a lag on, in seconds, somebody is to blame for it.
BLOCKED = 0.1


@lru_cache(maxsize=4096)
def _labels(route: str | None) -> dict[str, Any]:
    return {} if route is None else {"http.route": metrics.bounded("http.route", route)}


class Watch:
    """Watches one event loop until it ends.

    :param loop: it runs in the current thread
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._stopped = threading.Event()
        self._lag = metrics.histogram("process.eventloop.lag")
        self._blocked = metrics.counter("process.eventloop.blocked.time")
        self._blocked.add(0, _labels(None))
        self._lock = threading.Lock()
        self._due = monotonic() + INTERVAL
        # Up to when somebody was blamed already, and who it was.
        self._blamed, self._holder = 0.0, _labels(None)

    def start(self) -> None:
        """Begin; call it in the loop."""
        self._loop.call_later(INTERVAL, self._turn)
        threading.Thread(target=self._run, name="otel-cc-eventloop", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _turn(self) -> None:
        if self._stopped.is_set():
            return
        try:
            with self._lock:
                now = monotonic()
                lag = max(0.0, now - self._due)
                if lag >= BLOCKED:
                    # The time since the last look; all of it, when a C function let nobody look.
                    seen = self._blamed > self._due
                    self._blocked.add(now - max(self._due, self._blamed), self._holder if seen else _labels(None))
                self._due = now + INTERVAL
            self._lag.record_plain(lag, _labels(None))
        except Exception:
            guard.failed("the watch of the event loop")
        finally:
            # Without a next turn the loop would look blocked for ever.
            self._loop.call_later(INTERVAL, self._turn)

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL) and not self._loop.is_closed():
            try:
                with self._lock:
                    self._look(monotonic())
            except Exception:
                guard.failed("the watch of the event loop")

    def _look(self, now: float) -> None:
        if not self._loop.is_running():
            # Nobody holds a loop that was left.
            self._due = now + INTERVAL
        elif now - self._due >= BLOCKED:
            frame = sys._current_frames().get(self._thread)
            if frame is not None:
                self._holder = _labels(blame.route(frame))
                self._blocked.add(now - max(self._due, self._blamed), self._holder)
                self._blamed = now
