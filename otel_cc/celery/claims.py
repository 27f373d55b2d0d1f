"""Of all processes of a user on a machine, one reads a queue: whoever locks it first, until it ends.

The kernel gives a lock back when its process ends, however it ends, so there is nothing to clean up and nobody to ask.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from errno import EACCES, EAGAIN

from otel_cc import guard, report, shared_folder


class Claims:
    """Locks of this process on one broker.

    Each name is one byte of one file. A lock of this kind (POSIX) belongs to the process: a forked child does not have
    it, so that one which outlives its parent keeps nobody away.

    :param broker: what identifies the broker
    """

    def __init__(self, broker: str) -> None:
        self._file = f"celery-{_digest(broker):015x}.lock"
        self._fd: int | None = None
        self._pid = 0
        self._taken: set[str] = set()

    def take(self, name: str) -> bool:
        """Whether this process is, or now becomes, the one for ``name``; where nothing can be locked, every one is."""
        if name in self._taken and self._pid == os.getpid():
            return True
        try:
            if self._fd is None:
                self._fd, self._pid = self._open(), os.getpid()
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _digest(name))
        except OSError as error:
            if error.errno in (EACCES, EAGAIN):
                return False
            guard.warn_once("claims", "each process reads the Celery queues (%s): set OTEL_CC_STATUS_DIR.", error)
        self._taken.add(name)
        return True

    def release(self) -> None:
        """Leave everything to others."""
        self._taken.clear()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        folder = report.shared_dir()
        shared_folder.make(folder)
        return os.open(folder / self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _digest(text: str) -> int:
    """A number below 2**60, which a position in a file can be."""
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:15], 16)
