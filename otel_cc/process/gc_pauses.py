"""How long garbage collections stop the process.

A collection begins in the middle of whatever allocates, the SDK's own locked sections included, so its end only adds up
what it took, by the buckets of the histogram; the sums become measurements when metrics are collected. A process that
allocates a lot has thousands of collections in between.
"""

from __future__ import annotations

import gc
import math
from bisect import bisect_left
from time import perf_counter
from typing import Any

from otel_cc import metrics
from otel_cc.metrics.catalogue import CATALOGUE

_NAME = "process.gc.pause.duration"
_BOUNDS = (*CATALOGUE[_NAME].buckets, math.inf)
_GENERATIONS = range(3)


class Pauses:
    """Listens to the garbage collector."""

    def __init__(self) -> None:
        self._began = 0.0
        self._duration = metrics.histogram(_NAME)
        self._labels: list[dict[str, Any]] = [{"cpython.gc.generation": generation} for generation in _GENERATIONS]
        self.forget()

    def start(self) -> None:
        """Begin to listen; a forked child goes on by itself."""
        if self._listen not in gc.callbacks:
            gc.callbacks.append(self._listen)

    def stop(self) -> None:
        """Listen no more."""
        if self._listen in gc.callbacks:
            gc.callbacks.remove(self._listen)

    def forget(self) -> None:
        """Begin anew in a forked child: what was added up is the parent's."""
        self._seconds = [[0.0] * len(_BOUNDS) for _ in _GENERATIONS]
        self._numbers = [[0] * len(_BOUNDS) for _ in _GENERATIONS]
        # How much of it has become measurements.
        self._told = [[(0.0, 0)] * len(_BOUNDS) for _ in _GENERATIONS]

    def record(self) -> None:
        """Make measurements of what was added up, as many as there were collections, each of its bucket's average."""
        for generation, labels in enumerate(self._labels):
            for bucket, (told_seconds, told_number) in enumerate(self._told[generation]):
                number, seconds = self._numbers[generation][bucket], self._seconds[generation][bucket]
                if number == told_number:
                    continue
                # Of a collection that ends just now only the seconds may be there: the average stays in its bucket.
                lowest = math.nextafter(_BOUNDS[bucket - 1], math.inf) if bucket else 0.0
                average = min(max((seconds - told_seconds) / (number - told_number), lowest), _BOUNDS[bucket])
                self._told[generation][bucket] = seconds, number
                for _ in range(number - told_number):
                    self._duration.record_plain(average, labels)

    # Collections do not nest and exclude each other, so one beginning is enough.
    def _listen(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
            return
        seconds = perf_counter() - self._began
        generation = min(info["generation"], _GENERATIONS[-1])
        bucket = bisect_left(_BOUNDS, seconds)
        self._seconds[generation][bucket] += seconds
        self._numbers[generation][bucket] += 1
