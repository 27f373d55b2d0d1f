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
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from types import FrameType
from typing import Any

from otel_cc.local.program import Process, ProcessError, Ready, answers, listens, says, wait_until

__all__ = [
    "Interrupted",
    "Process",
    "ProcessError",
    "Processes",
    "Ready",
    "answers",
    "environment",
    "free_port",
    "keep_for_others",
    "listens",
    "says",
    "wait_until",
]

_given: set[int] = set()


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


def keep_for_others(ports: Iterable[int]) -> None:
    """Give out none of these ports: somebody chose them for a program that is not started yet."""
    _given.update(ports)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without what would change a telemetry setup, plus ``extra``."""
    foreign = ("OTEL_", "PYTHON", "CELERY_", "UVICORN_", "GUNICORN_", "PROMETHEUS_", "PG", "SHOP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Processes:
    """A set of programs with one temporary folder; leaving the ``with`` block stops them in reverse order.

    :param handle_signals: also turn SIGINT, SIGTERM and SIGHUP into an orderly end (for commands; only in the main thread)
    :param folder: keep logs and data here instead of in a temporary folder that is removed at the end
    :param on_start: told of each program once it has been started, for whoever has to find it after our own sudden end
    """

    def __init__(
        self,
        *,
        handle_signals: bool = False,
        folder: Path | None = None,
        on_start: Callable[[Process], object] = lambda _process: None,
    ) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="otel-cc-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # A server that refuses to run as root (PostgreSQL) must be able to reach its own folder inside.
            self.folder.chmod(0o711)
        self._stops: list[Callable[[], object]] = []
        self._on_start = on_start
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
            process.stop_timeout = stop_timeout
            self._stops.append(lambda: process.stop(stop_signal, stop_timeout, hurry=lambda: self._hurry))
            self._on_start(process)
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
