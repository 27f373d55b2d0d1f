"""Objects that are known without being kept: what nobody else keeps any more disappears by itself."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """A set of weak references that one thread may read while others add; a ``WeakSet`` must not be changed then."""

    def __init__(self) -> None:
        self._refs: set[weakref.ref[T]] = set()

    def add(self, one: T) -> None:
        """Know ``one`` for as long as somebody else keeps it."""
        self._refs.add(weakref.ref(one, self._refs.discard))

    def __iter__(self) -> Iterator[T]:
        for ref in self._refs.copy():
            one = ref()
            if one is not None:
                yield one

    def forget(self) -> None:
        """Know none any more."""
        self._refs = set()
