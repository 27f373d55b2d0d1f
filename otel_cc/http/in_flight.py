"""What is open at the moment, by labels: one operation on a set at its begin and one at its end, counted when read."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any

from otel_cc.living import Living
from otel_cc.metrics import Values

_all: Living[InFlight] = Living()


class InFlight:
    """The requests, or connections, that are open."""

    def __init__(self) -> None:
        # A number per label would need a lock where several threads have event loops.
        self._open: dict[Hashable, dict[str, Any]] = {}
        self._seen: dict[int, dict[str, Any]] = {}
        _all.add(self)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, one: Hashable, labels: dict[str, Any]) -> None:
        """``one`` is open from now on.

        :param labels: one object for each combination of values
        """
        self._seen[id(labels)] = labels
        self._open[one] = labels

    def leave(self, one: Hashable) -> None:
        """``one`` is not open any more; it may not have been."""
        self._open.pop(one, None)

    def read(self) -> Values:
        """How many are open, for every combination of labels that there has been: 0, too."""
        counts = dict.fromkeys(list(self._seen), 0)
        for labels in list(self._open.values()):
            counts[id(labels)] = counts.get(id(labels), 0) + 1
        return [(count, self._seen[key]) for key, count in counts.items()]

    def _after_fork(self) -> None:
        # What is open in the parent does not end in the child.
        self._open.clear()
        self._seen.clear()


def _after_fork() -> None:
    for one in _all:
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
