"""Where the processes of a service find each other: one folder for each service and port, only for its user.

A member has two files in it: the socket at which it answers, and what it counted last. Whether it lives is what the
socket says: the kernel refuses a connection to a process that is gone, and a number of a process cannot be mistaken for
that of another. What is in the files is believed nothing (snapshot.py).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_cc import guard, shared_folder
from otel_cc.metrics.pull.lock import Lock
from otel_cc.metrics.pull.snapshot import Snapshot, decode, encode

# Bytes; a process with 2000 series in each of 60 instruments needs less.
LIMIT = 64 * 1024 * 1024
PAST = "past"
SNAPSHOT = b"S"
# sun_path has 108 bytes in Linux and 104 in macOS.
_LONGEST = 100
# Seconds; a living member writes its file more often.
RECENT = 15.0
_MEMBER = re.compile(r"[0-9]{1,10}-[0-9a-f]{8}", re.ASCII)


def folder_for(base: Path, address: str, service: str) -> Path:
    """The folder of the service with this name that is scraped at this address."""
    return base / f"prometheus-{hashlib.sha256(f'{address} {service}'.encode()).hexdigest()[:16]}"


class Directory:
    """The folder.

    :param run: which start of the service this process belongs to
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self._entrance = Lock(path / "entrance.lock")

    def open(self) -> None:
        """Make the folder.

        :raises OSError: it cannot be made, or it is not ours alone
        """
        # Who owns it could put another folder in the place of ours; root could anyway.
        shared_folder.make(self.path.parent, 0)
        shared_folder.make(self.path)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not a folder that belongs to this user alone", str(self.path))

    def enter(self, member: str) -> socket.socket:
        """Become a member: the socket at which this process answers.

        Who finds no living member begins a new run, unless it was started by the one that is there: what the workers
        of a supervisor counted remains when the last of them is replaced.

        :raises OSError: it does not work
        """
        self.open()
        with self._entering():
            members = self.members()
            if not any(self.alive(other) for other in members):
                self._forget_other_runs(members)
            # Under another name first: who finds a socket that does not listen yet takes its process for dead.
            partial = f"{member}.new"
            self.remove(partial)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with self._address(partial) as address:
                    listener.bind(address)
                listener.listen(64)
                os.rename(self.path / partial, self.path / f"{member}.sock")
            except BaseException:
                listener.close()
                raise
            return listener

    @contextmanager
    def _entering(self) -> Iterator[None]:
        deadline = time.monotonic() + 3
        while not self._entrance.take():
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock for too long", str(self.path))
            time.sleep(0.01)
        try:
            yield
        finally:
            self._entrance.release()

    def _forget_other_runs(self, members: Iterable[str]) -> None:
        for name in [*members, PAST]:
            found = self.read(name)
            if found is None or found.run != self.run:
                self.discard(name)

    def members(self) -> list[str]:
        """Who is or was here, in a stable order."""
        try:
            names = {name.partition(".")[0] for name in os.listdir(self.path) if name.endswith((".sock", ".json"))}
        except OSError:
            return []
        return sorted(name for name in names if _MEMBER.fullmatch(name))

    def alive(self, member: str) -> bool:
        """Whether its process lives; one that is too busy to answer does."""
        connection = self._connect(member)
        if connection is not None:
            connection.close()
        return connection is not None

    def ask(self, members: Iterable[str], timeout: float) -> dict[str, Snapshot | None]:
        """What the living members have; None for one that lives and does not answer. Those who are dead are left out.

        :param timeout: seconds for all of them together; they work at it at the same time
        """
        deadline = time.monotonic() + timeout
        connections = {}
        for member in members:
            connection = self._connect(member)
            if connection is not None:
                connections[member] = connection
                try:
                    connection.sendall(SNAPSHOT)
                except OSError:
                    pass
        answers = {}
        for member, connection in connections.items():
            with connection:
                answers[member] = self._decoded(member, _received(connection, deadline))
        return answers

    def _connect(self, member: str) -> socket.socket | None:
        """A connection, which may be one that goes nowhere; None when there is nobody."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # It succeeds at once, or the queue is full.
        connection.settimeout(0)
        try:
            with self._address(f"{member}.sock") as address:
                connection.connect(address)
        except ConnectionRefusedError:
            connection.close()
            return None
        except FileNotFoundError:
            # Its socket was removed by who cleans temporary folders: it comes back soon, if it lives.
            if not self._recent(member):
                connection.close()
                return None
        except OSError:
            # Somebody must be there to have a full queue. A question that goes nowhere gets no answer.
            pass
        return connection

    def _recent(self, member: str) -> bool:
        try:
            return time.time() - os.stat(self.path / f"{member}.json").st_mtime < RECENT
        except OSError:
            return False

    @contextmanager
    def _address(self, name: str) -> Iterator[str]:
        """The path of a socket, through the open folder where it would be too long by itself."""
        path = str(self.path / name)
        if len(os.fsencode(path)) < _LONGEST:
            yield path
            return
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}/{name}"
        finally:
            os.close(folder)

    def write(self, name: str, snapshot: Snapshot) -> None:
        """Keep a snapshot, so that nobody ever reads half of one.

        :raises OSError: it cannot be written
        """
        partial = self.path / f"{name}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(partial, flags, 0o600), "wb") as file:
            file.write(encode(snapshot))
        partial.replace(self.path / f"{name}.json")

    def read(self, name: str) -> Snapshot | None:
        """A kept snapshot; None when there is none that can be used."""
        try:
            # A file that is no file (a FIFO) would hold us for ever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(self.path / f"{name}.json", flags), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
                    data = b"it is no file of this user"
                else:
                    data = file.read(LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            data = str(error).encode()
        return self._decoded(name, data)

    def _decoded(self, name: str, data: bytes | None) -> Snapshot | None:
        if not data:
            return None
        try:
            if len(data) > LIMIT:
                raise ValueError(f"it has more than {LIMIT} bytes")
            return decode(data)
        except ValueError as error:
            guard.warn_once(
                f"pull {name}",
                "what %s in %s says is no metrics and is left out (%s): "
                "restart the service, or set OTEL_CC_STATUS_DIR to a folder of its own.",
                name,
                self.path,
                error,
            )
            return None

    def touch(self, *names: str) -> bool:
        """Tell those who clean temporary folders that these files are in use; whether the last one is there."""
        present = False
        for name in names:
            try:
                os.utime(self.path / name)
                present = True
            except OSError:
                present = False
        return present

    def discard(self, member: str) -> None:
        """Remove everything of a member."""
        for kind in ("sock", "tmp", "json"):
            self.remove(f"{member}.{kind}")

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            os.unlink(self.path / name)
        except OSError:
            pass


def _received(connection: socket.socket, deadline: float) -> bytes | None:
    """What comes until the end, or None when it does not come in time."""
    data = bytearray()
    try:
        while len(data) <= LIMIT:
            # What is there already is taken after the deadline, too.
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            piece = connection.recv(262144)
            if not piece:
                return bytes(data)
            data += piece
        return bytes(data)
    except OSError:
        return None
