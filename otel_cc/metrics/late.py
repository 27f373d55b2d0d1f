"""Measurements that are made while the garbage collector runs wait until it has ended.

It runs in the middle of whatever allocates, the SDK's own locked sections included, and what it finds may measure:
SQLAlchemy takes back a connection there that nobody closed. To record at once would be to wait for ever for a lock that
the same thread holds.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable
from threading import get_native_id
from typing import Any

attention = False
"""Whether the garbage collector runs or a measurement waits: whoever records looks here first."""

_waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
_collecting_thread = 0


def install() -> None:
    """Begin to listen to the garbage collector; a forked child goes on by itself."""
    if _listen not in gc.callbacks:
        gc.callbacks.append(_listen)


def put_off(record: Callable[..., None], *measurement: Any) -> bool:
    """Put a measurement off if the garbage collector runs in this thread, else catch up on those that wait.

    :param record: what is called with ``measurement`` later
    :return: whether it was put off
    """
    if _collecting_thread == get_native_id():
        _waiting.append((record, measurement))
        return True
    catch_up()
    return False


def catch_up() -> None:
    """Record what waits."""
    taken = []
    while _waiting:
        try:
            taken.append(_waiting.popleft())
        except IndexError:
            # Another thread was faster.
            break
    for record, measurement in taken:
        record(*measurement)


# Collections do not nest and exclude each other. Only here is the attention withdrawn: anywhere else another thread's
# collection might have begun in between.
def _listen(phase: str, info: dict[str, int]) -> None:
    global attention, _collecting_thread
    if phase == "start":
        # Not that of gevent and eventlet, which have one for each greenlet, and none for one that ends.
        _collecting_thread, attention = get_native_id(), True
    else:
        _collecting_thread, attention = 0, bool(_waiting)


# What waits is the parent's.
os.register_at_fork(after_in_child=_waiting.clear)
