"""The process runner: starts the real programs behind the demo, the tests and the local stack, and leaves none behind.

::

    with Processes() as processes:
        server = processes.start("api", ["uvicorn", "app:app"], ready=listens(port))
        ...

Each program is the leader of a session of its own, so that Ctrl-C in the terminal reaches only us and we decide the
order in which they end. Output goes to one file per program, and an error message always shows the end of that file.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from types import FrameType
from typing import Any, TypeVar

from otel_cc.local import proctree

Ready = Callable[["Process"], bool]
T = TypeVar("T")

# A group that outlives its leader gets this long to end by itself, in seconds.
_GRACE = 2.0

# What SIGKILL may take, in seconds.
_KILL = 10.0

_given: set[int] = set()


class ProcessError(Exception):
    """A program did not start, did not become ready, or ended early; the text has the end of its log."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; not an ``Exception``, so that no retry loop swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on and that this process did not give out before.

    It lies below the range from which the kernel takes the ports of outgoing connections: one of those could occupy it
    in the moment before the server binds it.
    """
    random = SystemRandom()
    for _ in range(200):
        port = random.randrange(15000, 32000)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise ProcessError(f"no free port was found on {host} between 15000 and 32000: stop what uses them.")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without what would change a telemetry setup, plus ``extra``."""
    foreign = ("OTEL_", "PYTHON", "CELERY_", "UVICORN_", "GUNICORN_", "PROMETHEUS_", "PG", "SHOP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


def listens(port: int, host: str = "127.0.0.1") -> Ready:
    """Ready when something accepts connections on the port."""

    def ready(_process: Process) -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    return ready


def says(pattern: str) -> Ready:
    """Ready when the program's output matches the regular expression."""
    compiled = re.compile(pattern)
    return lambda process: compiled.search(process.output()) is not None


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
        self._identity = proctree.identity(self.popen.pid)

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
        """Wait for the readiness check; a program without one is ready once it is started.

        :param timeout: seconds
        :param check: called in between; may raise to give up
        :raises ProcessError: it ended, or was not ready in time
        """
        if self._ready is None:
            return
        deadline = time.monotonic() + timeout
        pause = 0.01
        while True:
            check()
            if not self.running:
                raise ProcessError(
                    f"{self.name} {self.how_it_ended()} before it was ready. Its log ends:\n{self.tail()}"
                )
            if self._ready(self):
                return
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} was not ready within {timeout:g} s. Its log ends:\n{self.tail()}")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.1)

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
        self, signum: int = signal.SIGTERM, timeout: float = 10.0, hurry: Callable[[], bool] = lambda: False
    ) -> int:
        """End the program and everything it started: ask the leader, then kill what is left.

        The signal goes to the leader alone, as a service manager sends it: Celery's pool children would die of it in the
        middle of a task.

        :param timeout: seconds until SIGKILL
        :param hurry: polled; true means SIGKILL now
        :return: the exit code of the leader
        """
        family = proctree.family(self._identity)
        deadline = time.monotonic() + timeout
        self.send(signum)
        while self.running and time.monotonic() < deadline and not hurry():
            try:
                self.popen.wait(0.1)
            except subprocess.TimeoutExpired:
                family |= proctree.family(self._identity)
        grace = time.monotonic() + (_GRACE if not self.running else 0)
        while (left := proctree.alive(self._identity, family)) and time.monotonic() < grace and not hurry():
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
            left = proctree.alive(self._identity, family)
        return self.popen.wait()

    def kill(self) -> None:
        """End it and everything it started at once, as a crash of the machine would."""
        self.stop(signal.SIGKILL, timeout=0)


class Processes:
    """A set of programs with one temporary folder; leaving the ``with`` block stops them in reverse order.

    :param handle_signals: also turn SIGINT, SIGTERM and SIGHUP into an orderly end (for commands; only in the main thread)
    :param folder: keep logs and data here instead of in a temporary folder that is removed at the end
    """

    def __init__(self, *, handle_signals: bool = False, folder: Path | None = None) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="otel-cc-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # A server that refuses to run as root (PostgreSQL) must be able to reach its own folder inside.
            self.folder.chmod(0o711)
        self._stops: list[Callable[[], object]] = []
        self._handle_signals = handle_signals and threading.current_thread() is threading.main_thread()
        self._previous: dict[int, Any] = {}
        self._signum: int | None = None
        self._shielded = False
        self._hurry = False
        self._pid = os.getpid()
        # For whoever forgets the ``with`` block, and for an exit in its middle.
        atexit.register(self.stop_all)

    def __enter__(self) -> Processes:
        if self._handle_signals:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self.stop_all()
        finally:
            for signum, handler in self._previous.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._signum is not None:
            self._hurry = True
            return
        self._signum = signum
        if not self._shielded:
            raise Interrupted(signum)

    @property
    def interrupted(self) -> Interrupted | None:
        """The signal that arrived, even when it came while everything was being stopped."""
        return None if self._signum is None else Interrupted(self._signum)

    def check(self) -> None:
        """Raise :class:`Interrupted` when a signal has arrived; call it in loops.

        The exception that the handler raises is lost when it falls into a destructor.
        """
        if self._signum is not None and not self._shielded:
            raise Interrupted(self._signum)

    @contextmanager
    def _shield(self) -> Iterator[None]:
        """Between the start of a program and its entry in our list no signal may interrupt us."""
        before, self._shielded = self._shielded, True
        try:
            yield
        finally:
            self._shielded = before
        self.check()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ready: Ready | None = None,
        timeout: float = 30.0,
        wait: bool = True,
        stop_signal: int = signal.SIGTERM,
        stop_timeout: float = 10.0,
        separate_stderr: bool = False,
        **popen: Any,
    ) -> Process:
        """Start a program and wait until it is ready.

        :param env: its whole environment (see :func:`environment`); default: that of this process
        :param ready: see :func:`listens` and :func:`says`, or any function of the process
        :param timeout: seconds until it must be ready
        :param wait: False returns at once; call :meth:`Process.wait_ready` later
        :param stop_signal: what asks it to end
        :param stop_timeout: seconds until SIGKILL after that
        :param separate_stderr: write stderr to a file of its own
        :param popen: passed to :class:`subprocess.Popen` (``user``, ``group``, ...)
        :raises ProcessError: it did not start or did not become ready; it is stopped then
        """
        log = self._unused(name, "log")
        err = log.with_suffix(".err") if separate_stderr else log
        with self._shield():
            process = Process(name, argv, log, err, ready, env=env, cwd=cwd, **popen)
            self._stops.append(lambda: process.stop(stop_signal, stop_timeout, hurry=lambda: self._hurry))
        if wait:
            try:
                process.wait_ready(timeout, self.check)
            except ProcessError:
                process.stop(stop_signal, min(stop_timeout, 2.0))
                raise
        return process

    def run(self, name: str, argv: Sequence[str], *, timeout: float = 60.0, **start: Any) -> str:
        """Run a program to its end and return what it wrote.

        :param timeout: seconds
        :param start: as for :meth:`start`
        :raises ProcessError: it failed, or still ran after the timeout
        """
        process = self.start(name, argv, wait=False, **start)
        deadline = time.monotonic() + timeout
        while process.running and time.monotonic() < deadline:
            self.check()
            time.sleep(0.02)
        if process.running:
            process.kill()
            raise ProcessError(f"{name} still ran after {timeout:g} s. Its log ends:\n{process.tail()}")
        if process.exit_code != 0:
            raise ProcessError(f"{name} {process.how_it_ended()}. Its log ends:\n{process.tail()}")
        return process.output()

    def _unused(self, name: str, suffix: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        number = 1
        while (path := self.folder / (f"{plain}.{suffix}" if number == 1 else f"{plain}-{number}.{suffix}")).exists():
            number += 1
        return path

    def at_end(self, stop: Callable[[], object]) -> None:
        """Call ``stop`` at the end, in reverse order with the programs."""
        self._stops.append(stop)

    def stop_all(self) -> None:
        """Stop everything, last first, and remove the temporary folder; safe to call again.

        :raises Exception: the first failure of a stop, after everything else has been stopped
        """
        if os.getpid() != self._pid:
            # A forked child inherits the exit handler, not the programs.
            return
        # From here on a signal does not interrupt: the second one makes it faster.
        self._shielded = True
        failures = []
        while self._stops:
            try:
                self._stops[-1]()
            except Exception as error:
                failures.append(error)
            # Only now: after a KeyboardInterrupt in between, the next call has to do it again.
            self._stops.pop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop_all)
        if failures:
            raise failures[0]
