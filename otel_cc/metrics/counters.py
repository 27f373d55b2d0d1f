"""A counter of plain numbers, read when metrics are collected; the first event of a series is visible to ``rate()``.

A series that appears in Prometheus with the value 1 has not risen, so ``rate()`` and ``increase()`` do not see the first
error of its kind. Here a new series is shown as 0 once and with its value from the next collection on; whoever collects
for the last time gets the value (:func:`announce_all`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation

from otel_cc.living import Living
from otel_cc.metrics.catalogue import OVERFLOW, SERIES_LIMIT

Attributes = Mapping[str, Any]
Key = tuple[tuple[str, Any], ...]

_all: Living[Counter] = Living()
_thread = threading.local()


class Counter:
    """Counts by attributes; safe in threads, and from zero in a forked child."""

    def __init__(self) -> None:
        self._lock = _lock()
        self._values: dict[Key, float] = {}
        self._announced: set[Key] = set()
        _all.add(self)

    def add(self, amount: float, attributes: Attributes) -> None:
        """Count.

        :param amount: in the unit of the instrument, not negative; 0 announces the series
        :param attributes: names of the catalogue, always in the same order
        """
        key = tuple(attributes.items())
        with self._lock:
            if key not in self._values:
                if len(self._values) >= SERIES_LIMIT - 1:
                    key = tuple(OVERFLOW.items())
                self._values.setdefault(key, 0)
            # Without a call in between, so that no garbage collection is.
            self._values[key] += amount

    def observe(self, options: CallbackOptions) -> Iterable[Observation]:
        """The values, for an observable counter."""
        with self._lock:
            values = self._values.copy()
            real = getattr(_thread, "real_values", False)
            news = set() if real else values.keys() - self._announced
            self._announced.update(news)
        for key, value in values.items():
            yield Observation(0 if key in news else value, dict(key))

    @property
    def unannounced(self) -> bool:
        """Whether there is a series that no collection has shown yet."""
        with self._lock:
            return len(self._announced) < len(self._values)

    def announce(self) -> None:
        """Show every series with its value from the next collection on."""
        with self._lock:
            self._announced.update(self._values)

    def _after_fork(self) -> None:
        self._lock = _lock()
        self._values.clear()
        self._announced.clear()


def _lock() -> threading.RLock:
    # What the garbage collector finds may count, in the middle of a locked section of the same thread.
    return threading.RLock()


@contextmanager
def real_values() -> Iterator[None]:
    """Collections of this thread get every series with its value and announce none: for a reader that does so itself."""
    _thread.real_values = True
    try:
        yield
    finally:
        _thread.real_values = False


def unannounced() -> bool:
    """Whether any counter has a series that no collection has shown yet: then collect once more at the end."""
    return any(counter.unannounced for counter in _all)


def announce_all() -> None:
    """Show every series of every counter with its value from the next collection on, which may be the last one."""
    for counter in _all:
        counter.announce()


def _after_fork() -> None:
    for counter in _all:
        counter._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
