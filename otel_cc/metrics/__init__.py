"""Instruments, made from the catalogue: nothing is measured under a name that is not in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_cc import guard
from otel_cc.metrics import bounds, late
from otel_cc.metrics.bounds import bounded
from otel_cc.metrics.catalogue import CATALOGUE, Instrument
from otel_cc.metrics.counters import Counter
from otel_cc.metrics.histogram import LeanHistogram
from otel_cc.version import __version__

__all__ = ["Values", "bounded", "counter", "counts_events", "histogram", "observe"]

Values = Iterable[tuple[float, dict[str, Any]]]
# Who reads, and in which process.
_Readers = dict[tuple[Callable[[], Values], int], None]

# With the provider, so that no other one gets its identity.
_made: dict[tuple[int, str], tuple[Any, Any]] = {}
_ANY_PROCESS = 0
_OVERFLOW = "commandcenter.metrics.overflow"
# A signal may come, or garbage be collected, in the middle of it, and want an instrument, too.
_making = threading.RLock()


def histogram(name: str) -> LeanHistogram:
    """The histogram of the catalogue with this name, of the current meter provider.

    :raises KeyError: the catalogue has no such instrument
    """
    found: LeanHistogram = _once(name, _make_histogram)
    return found


def counter(name: str) -> Counter:
    """The counter of the catalogue with this name, of the current meter provider.

    :raises KeyError: the catalogue has no such instrument
    """
    found: Counter = _once(name, _make_counter)
    return found


def observe(name: str, read: Callable[[], Values], *, in_children: bool = False) -> Callable[[], None]:
    """Read values at every collection: for what is known anyway and must cost nothing when it changes.

    To ask for the same again changes nothing, so a caller need not know whether this process reads it already.

    :param name: of a gauge, an updown or a counter in the catalogue; several readers of one name add their values
    :param read: returns values and their attributes; it may be called in any thread, and one that raises shows nothing
    :param in_children: whether a forked child reads it, too; a state that belongs to one process must not be reported
        by its children
    :return: takes the reader back
    :raises KeyError: the catalogue has no such instrument
    """
    # A reader may find a value beyond a bound, and can make no instrument then: it runs under the lock of the SDK that a
    # new one needs.
    counter(_OVERFLOW)
    readers: _Readers = _once(name, _make_observable)
    reader = read, _ANY_PROCESS if in_children else os.getpid()
    readers[reader] = None
    return lambda: readers.pop(reader, None)


def counts_events(name: str) -> bool:
    """Whether a counter counts events in this process, so that a series that is new there began with zero."""
    # A copy is made in one piece. A list of pairs is not: the garbage collector may run and another thread make one more.
    return any(other == name and isinstance(made, Counter) for (_, other), (_, made) in _made.copy().items())


def _once(name: str, make: Callable[[str, Instrument, Any], Any]) -> Any:
    provider = metrics.get_meter_provider()
    key = (id(provider), name)
    found = _made.get(key)
    if found is None:
        # Of two counters with one name the SDK would export the sums of one of them only.
        with _making:
            found = _made.get(key)
            if found is None:
                entry = CATALOGUE[name]
                found = provider, make(name, entry, provider.get_meter(f"otel_cc.{entry.scope}", __version__))
                _made[key] = found
    return found[1]


def _make_histogram(name: str, entry: Instrument, meter: Any) -> LeanHistogram:
    _expect(name, entry, "histogram")
    late.install()
    return LeanHistogram(
        meter.create_histogram(
            name, unit=entry.unit, description=entry.text, explicit_bucket_boundaries_advisory=entry.buckets
        )
    )


def _make_counter(name: str, entry: Instrument, meter: Any) -> Counter:
    _expect(name, entry, "counter")
    made = Counter()
    meter.create_observable_counter(name, [made.observe], entry.unit, entry.text)
    return made


def _make_observable(name: str, entry: Instrument, meter: Any) -> _Readers:
    _expect(name, entry, "counter", "updown", "gauge")
    readers: _Readers = {}

    def callback(options: CallbackOptions) -> Iterable[Observation]:
        if late.attention:
            late.catch_up()
        for read, process in tuple(readers):
            if process not in (_ANY_PROCESS, os.getpid()):
                continue
            try:
                values = [Observation(value, attributes) for value, attributes in read()]
            except Exception:
                guard.failed(f"the metric {name}")
                continue
            yield from values

    create = {
        "counter": meter.create_observable_counter,
        "updown": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[entry.kind]
    create(name, [callback], entry.unit, entry.text)
    return readers


def _expect(name: str, entry: Instrument, *kinds: str) -> None:
    if entry.kind not in kinds:
        raise TypeError(f"{name} is a {entry.kind} in the catalogue.")


def _count_overflow(attribute: str) -> None:
    counter(_OVERFLOW).add(1, {"label": attribute})


def _after_fork() -> None:
    global _making
    _making = threading.RLock()


bounds.when_overflown(_count_overflow)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
