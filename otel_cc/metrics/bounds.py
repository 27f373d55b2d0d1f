"""Bounds on what becomes a label: a value that users can choose must not become a time series each time.

A process remembers the first values of an attribute, up to its bound in the catalogue; every further one is ``_OTHER``,
and each time that one is found is counted, too; callers that keep the labels that they made find it once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from otel_cc.metrics.catalogue import BOUNDS, OTHER

_seen: dict[str, set[str]] = {}
_overflown: list[Callable[[str], None]] = []
# The garbage collector may find something with a new value while it is held.
_adding = threading.RLock()


def bounded(attribute: str, value: str) -> str:
    """``value`` as a label: itself, or ``_OTHER`` when too many others were there before it.

    :param attribute: its name in the catalogue
    :raises KeyError: the catalogue has no bound for this attribute
    """
    seen = _seen.get(attribute)
    if seen is None:
        seen = _seen.setdefault(attribute, set())
    if value in seen:
        return value
    with _adding:
        # One place is kept for OTHER itself.
        if len(seen) < BOUNDS[attribute] - 1:
            seen.add(value)
            return value
    for tell in _overflown:
        tell(attribute)
    return OTHER


def when_overflown(tell: Callable[[str], None]) -> None:
    """Call ``tell`` with the name of an attribute whenever a value of it is found to be beyond the bound."""
    _overflown.append(tell)


def _after_fork() -> None:
    global _adding
    _adding = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
