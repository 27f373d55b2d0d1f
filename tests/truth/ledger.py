"""What happened, as the application itself counts it: one line for each event, in one file for all processes.

A line is there as soon as it is written, also when its process is killed in the next moment.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

_file = -1


def note(*words: object, amount: int = 1) -> None:
    """Count an event.

    :param words: what it was
    :param amount: how much of it
    """
    global _file
    if _file < 0:
        _file = os.open(os.environ["TRUTH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_file, "\t".join([*map(str, words), f"{amount}\n"]).encode())


def read(path: Path) -> Counter[tuple[str, ...]]:
    """The sums of all events in a file, by their words."""
    sums: Counter[tuple[str, ...]] = Counter()
    if path.exists():
        for line in path.read_text().splitlines():
            *words, amount = line.split("\t")
            sums[tuple(words)] += int(amount)
    return sums


def name(error: BaseException) -> str:
    """The name of an exception's class with its module, without it for Python's own."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
