"""The gauges of queues and workers: what the monitors of this process have seen of all brokers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from otel_cc import metrics
from otel_cc.celery import queues


class Seen(Protocol):
    """What one monitor has seen of its broker, unless that is too old.

    :ivar system: the broker's ``messaging.system``
    """

    system: str

    @property
    def depths(self) -> Mapping[str, queues.Depth]:
        """What waits, by queue."""

    @property
    def workers(self) -> int | None:
        """How many workers live."""

    @property
    def seen(self) -> float | None:
        """When it was read, in Unix time."""


_monitors: Mapping[str, Seen] = {}


def observe(monitors: Mapping[str, Seen]) -> None:
    """Show what monitors have seen.

    :param monitors: those of this process by their brokers, which come and go
    """
    global _monitors
    _monitors = monitors
    metrics.observe("celery.queue.messages", _messages)
    metrics.observe("celery.queue.oldest.age", _ages)
    metrics.observe("celery.workers", _counts)
    metrics.observe("celery.monitor.heartbeat.timestamp", _timestamps)


def _depths() -> list[tuple[queues.Depth, dict[str, str]]]:
    found: dict[tuple[str, str], queues.Depth] = {}
    for monitor in list(_monitors.values()):
        for name, depth in monitor.depths.items():
            key = monitor.system, metrics.bounded("messaging.destination.name", name)
            other = found.get(key)
            # Two brokers may have a queue of the same name, and what is beyond the bound has one.
            if other is not None:
                ages = [age for age in (depth.oldest, other.oldest) if age is not None]
                depth = queues.Depth(depth.messages + other.messages, max(ages, default=None))
            found[key] = depth
    return [(depth, _labels(*key)) for key, depth in found.items()]


def _messages() -> list[tuple[float, dict[str, str]]]:
    return [(depth.messages, labels) for depth, labels in _depths()]


def _ages() -> list[tuple[float, dict[str, str]]]:
    return [(depth.oldest, labels) for depth, labels in _depths() if depth.oldest is not None]


def _counts() -> list[tuple[float, dict[str, str]]]:
    known = [monitor.workers for monitor in list(_monitors.values())]
    counts = [count for count in known if count is not None]
    return [(sum(counts), {})] if counts else []


def _timestamps() -> list[tuple[float, dict[str, str]]]:
    seen = [monitor.seen for monitor in list(_monitors.values()) if monitor.seen is not None]
    return [(max(seen), {})] if seen else []


@lru_cache(maxsize=1024)
def _labels(system: str, name: str) -> dict[str, str]:
    return {"messaging.system": system, "messaging.destination.name": name}
