"""What beat has sent, when, and what is due next, so that a run that did not happen can be noticed.

The scheduler of the process is wrapped, whatever its class; its entries are only looked at where that does nothing else
(those of django-celery-beat write to the database when they are asked whether they are due). A message of beat says
which entry it is of, so that a worker can tell the success of that entry from that of the same task elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import time
from typing import Any

from otel_cc import guard, metrics
from otel_cc.celery import message, outcome

HEADER = "otel_cc_beat_entry"

_PLACE = "the schedule of Celery beat"
# The entry that is being published.
_entry: ContextVar[str | None] = ContextVar("otel_cc.celery.beat", default=None)
_succeeded: dict[str, float] = {}


class Watch:
    """What is known of the scheduler of this process; its attributes are read by other threads.

    :param scheduler: Celery's or a subclass; its ``tick`` and ``apply_async`` are wrapped
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._on_time_until = time()
        # When the entry was due that is being published, or that could not be; until it is published after all.
        self._late: dict[str, float] = {}
        self._first: Any = None
        self._publishing: str | None = None
        self._started: dict[str, float | None] = {}
        scheduler.tick = self._ticking(scheduler.tick)
        scheduler.apply_async = self._applying(scheduler.apply_async)

    def _ticking(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def tick(*args: Any, **kwargs: Any) -> Any:
            heap = self._heap()
            self._first = heap[0] if heap else None
            seconds = original(*args, **kwargs)
            self._on_time_until = time() + (seconds if isinstance(seconds, (int, float)) and seconds > 0 else 0)
            return seconds

        return tick

    def _applying(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(entry: Any, *args: Any, **kwargs: Any) -> Any:
            name = str(entry.name)
            self._begin(name, entry)
            token = _entry.set(name)
            self._publishing = name
            try:
                result = original(entry, *args, **kwargs)
            finally:
                self._publishing = None
                _entry.reset(token)
            self._started[name] = time()
            self._late.pop(name, None)
            return result

        return apply_async

    def _begin(self, name: str, entry: Any) -> None:
        with guard.guarded(_PLACE):
            self._started.setdefault(name, _last_run(entry))
            first = self._first
            mine = first is not None and first[2].name == entry.name
            self._late.setdefault(name, first[0] if mine else time())

    def _heap(self) -> list[Any] | None:
        """Celery's queue of entries by the time when they are due; a scheduler may have none."""
        heap = getattr(self._scheduler, "_heap", None)
        return heap if isinstance(heap, list) else None

    def _entries(self) -> dict[str, tuple[float, Any]] | None:
        heap = self._heap()
        return None if heap is None else {str(event[2].name): (event[0], event[2]) for event in list(heap)}

    def turned(self) -> list[tuple[float, dict[str, str]]]:
        """When the scheduler last turned; as long as it sleeps because nothing is due, that is now."""
        return [(min(time(), self._on_time_until), {})]

    def last_starts(self) -> list[tuple[float, dict[str, str]]]:
        """When each entry was last published, in Unix time."""
        started = dict(self._started)
        entries = self._entries()
        if entries is not None:
            # An entry that was removed from the schedule is no longer shown; one that is being published is out of it.
            started = {name: at for name, at in started.items() if name in entries or name == self._publishing}
            for name, (_, entry) in entries.items():
                if name not in started:
                    # What a persistent schedule remembers.
                    started[name] = _last_run(entry)
        return _labelled(((name, at) for name, at in started.items() if at is not None), max)

    def next_dues(self) -> list[tuple[float, dict[str, str]]]:
        """When each entry is due, in Unix time: in the past if it should have been published and was not."""
        entries = self._entries()
        if entries is None:
            return []
        dues = {name: due for name, (due, _) in entries.items()}
        late = {name: due for name, due in dict(self._late).items() if name in dues or name == self._publishing}
        return _labelled((dues | late).items(), min)


def _last_run(entry: Any) -> float | None:
    """When an entry ran before this process began, in Unix time."""
    at = getattr(entry, "last_run_at", None)
    if at is None or not getattr(entry, "total_run_count", 0):
        return None
    from celery.utils.time import maybe_make_aware

    return float(maybe_make_aware(at).timestamp())


def _labelled(
    values: Iterable[tuple[str, float]], choose: Callable[[float, float], float]
) -> list[tuple[float, dict[str, str]]]:
    """Values with the entry as a label; ``choose`` makes one of those that are beyond its bound."""
    found: dict[str, float] = {}
    for name, value in values:
        label = metrics.bounded("celery.beat.entry", name)
        found[label] = choose(found[label], value) if label in found else value
    return [(value, {"celery.beat.entry": label}) for label, value in found.items()]


def connect(signals: Any) -> None:
    """Connect to Celery's signals.

    :param signals: the module ``celery.signals``
    """
    # Embedded beat sends it too, in the process that was forked for it.
    signals.beat_init.connect(_begins, weak=False, dispatch_uid="otel_cc.beat_schedule")
    if _success not in outcome.on_success:
        outcome.on_success.append(_success)


def _begins(sender: Any = None, **_: object) -> None:
    with guard.guarded(_PLACE):
        watch = Watch(sender.scheduler)
        metrics.observe("celery.beat.heartbeat.timestamp", watch.turned)
        metrics.observe("celery.beat.entry.last_start.timestamp", watch.last_starts)
        metrics.observe("celery.beat.entry.next_due.timestamp", watch.next_dues)


def write(headers: dict[str, Any]) -> None:
    """Say in the headers of a message of beat which entry it is of; a retry keeps it."""
    name = _entry.get()
    if name is not None:
        headers[HEADER] = name


def _success(request: Any) -> None:
    """A task ended in success, in the main process of this worker.

    :param request: Celery's
    """
    name = message.field(request.request_dict, HEADER)
    if not isinstance(name, str) or len(name) > 255:
        return
    _succeeded[metrics.bounded("celery.beat.entry", name)] = time()
    metrics.observe("celery.beat.entry.last_success.timestamp", _successes)


def _successes() -> list[tuple[float, dict[str, str]]]:
    return [(at, {"celery.beat.entry": label}) for label, at in list(_succeeded.items())]
