"""One running program: whether it is ready, what it wrote, and its end, which is that of everything it started too."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from otel_cc.local import proctree

Ready = Callable[["Process"], bool]
T = TypeVar("T")

# A group that outlives its leader gets this long to end by itself, in seconds.
_GRACE = 2.0

# What SIGKILL may take, in seconds.
_KILL = 10.0


class ProcessError(Exception):
    """A program did not start, did not become ready, or ended early; the text has the end of its log."""


def wait_until(condition: Callable[[], T], timeout: float, what: str = "") -> T:
    """Poll until ``condition()`` is true and return its value.

    :param timeout: seconds
    :param what: what is waited for, for the message of the TimeoutError
    """
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or 'the condition'} did not come true within {timeout:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
    return value


def listens(port: int, host: str = "127.0.0.1") -> Ready:
    """Ready when something accepts connections on the port."""

    def ready(_process: Process) -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    return ready


def answers(port: int, path: str, containing: str = "", host: str = "127.0.0.1") -> Ready:
    """Ready when a GET of the path is answered with 200 and, if asked for, this text in the body."""

    def ready(_process: Process) -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status == 200 and containing in answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def says(pattern: str) -> Ready:
    """Ready when the program's output matches the regular expression."""
    compiled = re.compile(pattern)
    return lambda process: compiled.search(process.output()) is not None


class Process:
    """One running program; made by :meth:`Processes.start`.

    :param name: what people call it, used in messages and as the name of its log file
    :param log: the file that gets its stdout
    :param err: the file that gets its stderr; the same file as ``log`` unless asked otherwise
    """

    def __init__(self, name: str, argv: Sequence[str], log: Path, err: Path, ready: Ready | None, **popen: Any) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.err = err
        self._ready = ready
        # Seconds that :meth:`stop` gives it.
        self.stop_timeout = 10.0
        popen.setdefault("stdin", subprocess.DEVNULL)
        with open(log, "ab") as out, open(err, "ab") as errors:
            try:
                self.popen: subprocess.Popen[bytes] = subprocess.Popen(
                    self.argv,
                    stdout=out,
                    stderr=subprocess.STDOUT if err == log else errors,
                    start_new_session=True,
                    **popen,
                )
            except OSError as error:
                raise ProcessError(f"{name} cannot be started: {error}.") from error
        self.identity = proctree.identity(self.popen.pid)

    @property
    def pid(self) -> int:
        """The number of the process, which is that of its group and session too."""
        return self.popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self.popen.poll()

    @property
    def running(self) -> bool:
        """Whether the program itself (not only a child of it) still runs."""
        return self.exit_code is None

    def output(self) -> str:
        """Everything it has written so far, to stdout and then to stderr when those are apart."""
        files = [self.log] if self.log == self.err else [self.log, self.err]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def tail(self, lines: int = 20) -> str:
        """The last lines it has written, indented for an error message."""
        last = self.output().splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in last) if last else "    (no output)"

    def wait_ready(self, timeout: float = 30.0, check: Callable[[], None] = lambda: None) -> None:
        """Wait for the readiness check; a program without one is ready once it has been started.

        :param timeout: seconds
        :param check: called in between; may raise to give up
        :raises ProcessError: it ended before it was ready, or was not ready in time
        """

        def ready() -> bool:
            check()
            if self._ready is None:
                # It may have done all that it had to do.
                return True
            if not self.running:
                raise ProcessError(
                    f"{self.name} {self.how_it_ended()} before it was ready. Its log ends:\n{self.tail()}"
                )
            return self._ready(self)

        try:
            wait_until(ready, timeout)
        except TimeoutError:
            raise ProcessError(
                f"{self.name} was not ready within {timeout:g} s. Its log ends:\n{self.tail()}"
            ) from None

    def how_it_ended(self) -> str:
        """A few words for a message, once it has ended."""
        code = self.exit_code
        assert code is not None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def send(self, signum: int, *, group: bool = False) -> None:
        """Send a signal to the program, or to its whole group as a terminal does with Ctrl-C."""
        try:
            if group:
                os.killpg(self.pid, signum)
            elif self.running:
                os.kill(self.pid, signum)
        except ProcessLookupError:
            pass

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end of the program and return its exit code.

        :param timeout: seconds
        :raises ProcessError: it still runs after that
        """
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} still runs after {timeout:g} s. Its log ends:\n{self.tail()}") from None

    def stop(
        self, signum: int = signal.SIGTERM, timeout: float | None = None, hurry: Callable[[], bool] = lambda: False
    ) -> int:
        """End the program and everything it started: ask the leader, then kill what is left.

        The signal goes to the leader alone, as a service manager sends it: Celery's pool children would die of it in the
        middle of a task.

        :param timeout: seconds until SIGKILL; default: what it was started with
        :param hurry: polled; true means SIGKILL now
        :return: the exit code of the leader
        """
        family = proctree.family(self.identity)
        deadline = time.monotonic() + (self.stop_timeout if timeout is None else timeout)
        self.send(signum)
        while self.running and time.monotonic() < deadline and not hurry():
            try:
                self.popen.wait(0.1)
            except subprocess.TimeoutExpired:
                family |= proctree.family(self.identity)
        grace = time.monotonic() + (_GRACE if not self.running else 0)
        while (left := self._alive(family)) and time.monotonic() < grace and not hurry():
            time.sleep(0.02)
        end = time.monotonic() + _KILL
        while left:
            if time.monotonic() > end:
                raise ProcessError(
                    f"{self.name} does not end on SIGKILL (processes {left}): the kernel holds it, look at dmesg."
                )
            for pid in left:
                proctree.kill(pid)
            self.popen.poll()
            time.sleep(0.01)
            left = self._alive(family)
        return self.popen.wait()

    def _alive(self, family: set[proctree.Identity]) -> list[int]:
        """Those of the family that still run, with those that it has got in the meantime."""
        family |= proctree.family(self.identity)
        return proctree.alive(family)

    def kill(self) -> None:
        """End it and everything it started at once, as a crash of the machine would."""
        self.stop(signal.SIGKILL, timeout=0)
