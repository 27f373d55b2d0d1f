"""Whether a worker is alive, and how busy: gauges of its main process, read when metrics are collected.

A worker that was killed cannot say so, and a backend repeats its last values for minutes. The time of the last tick
grows old by itself, so it is the value to alert on. The ticks hang on the consumer's timer: they stop when the broker is
gone and when the loop of the worker no longer turns, and they need neither events nor Celery's own heartbeat.
"""

from __future__ import annotations

from functools import cache
from time import monotonic, time
from typing import Any

from otel_cc import guard, metrics

# Seconds between ticks, and how old the last one may be.
_INTERVAL = 2.0
_LATEST = 10.0

_workers: dict[str, Worker] = {}


class Worker:
    """What is known of a worker of this process: normally there is one.

    :param name: its node name
    """

    def __init__(self, name: str) -> None:
        self.labels = {"celery.worker.name": metrics.bounded("celery.worker.name", name)}
        self.connected = False
        self.pool: Any = None
        # Unix time, and on the monotonic clock.
        self.seen = 0.0
        self._ticked = 0.0

    def tick(self) -> None:
        """The worker is connected, and its loop turns."""
        self.seen, self._ticked = time(), monotonic()

    @property
    def up(self) -> bool:
        """Whether it can take tasks."""
        if not self.connected:
            return False
        if type(self.pool).__module__ == "celery.concurrency.solo" and _state().active_requests:
            # It runs a task instead of its loop, as it should.
            self.tick()
        return monotonic() - self._ticked < _LATEST

    @property
    def size(self) -> int:
        """How many tasks it can run at a time."""
        try:
            if type(self.pool).__module__ == "celery.concurrency.gevent":
                # Its num_processes is how many it runs, before Celery 5.7.
                return int(self.pool._pool.size)
            return int(self.pool.num_processes)
        except AttributeError:
            # A pool of children that has ended.
            return 0


def connect(signals: Any) -> None:
    """Connect to Celery's signals.

    :param signals: the module ``celery.signals``
    """
    signals.worker_init.connect(_worker_begins, weak=False, dispatch_uid="otel_cc.worker_init")


def ended() -> None:
    """The workers of this process take no more tasks; what is exported last says so."""
    for worker in _workers.values():
        worker.connected = False


def _worker_begins(sender: Any = None, **_: object) -> None:
    with guard.guarded("the heartbeat of the Celery worker"):
        _workers[sender.hostname] = Worker(sender.hostname)
        sender.app.steps["consumer"].add(_step())
        _observe()


@cache
def _step() -> Any:
    from celery.bootsteps import StartStopStep

    class Heartbeat(StartStopStep):
        """Ticks from the moment the consumer takes tasks, after each connect, until it no longer does."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **kwargs: Any) -> None:
            self._timer: Any = None
            super().__init__(consumer, **kwargs)

        def start(self, consumer: Any) -> None:
            with guard.guarded("the heartbeat of the Celery worker"):
                worker = _workers[consumer.hostname]
                worker.pool, worker.connected = consumer.pool, True
                worker.tick()
                self._timer = consumer.timer.call_repeatedly(_INTERVAL, worker.tick)

        def stop(self, consumer: Any) -> None:
            with guard.guarded("the heartbeat of the Celery worker"):
                worker = _workers.get(consumer.hostname)
                if worker is not None:
                    worker.connected = False
                timer, self._timer = self._timer, None
                if timer is not None:
                    timer.cancel()

        close = terminate = shutdown = stop

    return Heartbeat


def _observe() -> None:
    """Read the gauges in this process; several workers in one are read together."""
    metrics.observe("celery.worker.up", _ups)
    metrics.observe("celery.worker.heartbeat.timestamp", _timestamps)
    metrics.observe("celery.worker.tasks.active", _active)
    metrics.observe("celery.worker.tasks.reserved", _reserved)
    metrics.observe("celery.worker.pool.size", _pool_sizes)


def _known() -> list[Worker]:
    return list(_workers.values())


def _ups() -> list[tuple[float, dict[str, str]]]:
    return [(int(worker.up), worker.labels) for worker in _known()]


def _active() -> list[tuple[float, dict[str, str]]]:
    return _each(len(_state().active_requests))


def _reserved() -> list[tuple[float, dict[str, str]]]:
    return _each(len(_state().reserved_requests))


def _each(count: int) -> list[tuple[float, dict[str, str]]]:
    return [(count, worker.labels) for worker in _known()]


def _timestamps() -> list[tuple[float, dict[str, str]]]:
    # Asking whether it is up is what moves the time of a busy solo worker.
    return [(worker.seen, worker.labels) for worker in _known() if worker.up or worker.seen]


def _pool_sizes() -> list[tuple[float, dict[str, str]]]:
    return [(worker.size, worker.labels) for worker in _known() if worker.pool is not None]


def _state() -> Any:
    from celery.worker import state

    return state
