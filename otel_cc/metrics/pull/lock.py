"""A lock on a file: one process of all has it, and whoever dies gives it back."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Lock:
    """Of the kind that belongs to the process: a forked child does not inherit it, however long it lives.

    It never waits, because in a gevent or eventlet worker a thread that waits in the kernel stops everything.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._pid = 0

    def take(self) -> bool:
        """Whether this process has the lock now.

        :raises OSError: the file cannot be made
        """
        if self.held():
            return True
        self.release()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            return False
        self._pid = os.getpid()
        return self.held()

    def held(self) -> bool:
        """Whether this process has it, and the file is still the one that others find."""
        if self._file is None or self._pid != os.getpid():
            return False
        try:
            here, there = os.fstat(self._file), os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Give it back; in a forked child: drop what it has of its parent's."""
        if self._file is not None:
            os.close(self._file)
        self._file = None
