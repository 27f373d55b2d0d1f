"""Before the collector starts: move a damaged queue file aside, so that one bad file does not stop everything.

::

    python -m otel_cc.collector.queue_check /var/lib/otelcol

A collector that finds such a file ends, each time that it is started. What the file still held is lost to the store;
nothing else is: the collector begins a new file, and the damaged one is kept. A file that a running collector has open
is left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_cc.collector import bolt

ASIDE = "damaged"

# The folders in OTEL_CC_COLLECTOR_STATE that have one file per queue, or per position in a log.
_FOLDERS = ("queue", "positions")


@dataclass(frozen=True)
class Moved:
    """A damaged file that was moved aside.

    :param path: where it was
    :param to: where it is now
    :param reason: what is wrong with it
    :param size: bytes
    """

    path: Path
    to: Path
    reason: str
    size: int

    def __str__(self) -> str:
        what = "what had been accepted and was not yet delivered"
        if self.path.parent.name == "positions":
            what = "the place up to which a log was read"
        return (
            f"the collector's file {self.path} is damaged ({self.reason}); it is moved to {self.to}. Lost is {what} in it, "
            f"at most {self.size / 1048576:.1f} MiB; delete it when nobody wants to look into it any more."
        )


def check(state: Path) -> list[Moved]:
    """Look at each file below the collector's folder and move the damaged ones aside.

    :param state: what OTEL_CC_COLLECTOR_STATE names; a folder that is not there has no damaged files
    :return: what was moved
    :raises OSError: a file cannot be read or moved
    """
    files = (file for name in _FOLDERS if (state / name).is_dir() for file in sorted((state / name).iterdir()))
    # The collector itself removes what a compaction has left behind.
    held = (file for file in files if file.is_file() and not file.name.startswith("tempdb"))
    return [moved for file in held if (moved := _check_file(file, state / ASIDE))]


def _check_file(path: Path, aside: Path) -> Moved | None:
    with open(path, "rb") as file:
        try:
            # The lock of bbolt: whoever has it has the file open.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        try:
            bolt.check(path)
        except bolt.Damaged as damage:
            aside.mkdir(mode=0o700, exist_ok=True)
            to = aside / f"{path.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            size = path.stat().st_size
            os.rename(path, to)
            return Moved(path, to, str(damage), size)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints one line per file that it moved; 0 also then, because the collector can start now."""
    parser = argparse.ArgumentParser(description="Move damaged queue files of the collector aside.")
    parser.add_argument("state", type=Path, help="the folder that OTEL_CC_COLLECTOR_STATE names")
    state = parser.parse_args(arguments).state
    try:
        moved = check(state)
    except OSError as error:
        sys.stderr.write(f"the queue files in {state} cannot be checked: {error}.\n")
        return 1
    for found in moved:
        sys.stderr.write(f"{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
