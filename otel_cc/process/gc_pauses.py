"""How long garbage collections stop the process.

A collection begins in the middle of whatever allocates, the SDK's own locked sections included, so its end only notes
the time; the notes become measurements when metrics are collected.
"""

from __future__ import annotations

import gc
from collections import deque
from time import perf_counter
from typing import Any

from otel_cc import metrics

# What happens between two collections of metrics is far below it; it bounds the memory when nobody collects.
_KEPT = 20_000


class Pauses:
    """Listens to the garbage collector."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, float]] = deque(maxlen=_KEPT)
        self._began = 0.0
        self._duration = metrics.histogram("process.gc.pause.duration")
        self._labels: dict[int, dict[str, Any]] = {
            generation: {"cpython.gc.generation": generation} for generation in range(3)
        }

    def start(self) -> None:
        """Begin to listen; a forked child goes on by itself."""
        if self._listen not in gc.callbacks:
            gc.callbacks.append(self._listen)

    def stop(self) -> None:
        """Listen no more."""
        if self._listen in gc.callbacks:
            gc.callbacks.remove(self._listen)

    def forget(self) -> None:
        """Begin anew in a forked child: what was noted is the parent's."""
        self._notes.clear()

    def record(self) -> None:
        """Make measurements of what was noted."""
        notes = self._notes
        while notes:
            try:
                generation, seconds = notes.popleft()
            except IndexError:
                # Another reader of metrics was faster.
                return
            self._duration.record_plain(seconds, self._labels.get(generation, self._labels[2]))

    # Collections do not nest and exclude each other, so one beginning is enough.
    def _listen(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self._notes.append((info["generation"], perf_counter() - self._began))
