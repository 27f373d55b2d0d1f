"""One process of a service: it answers its siblings, keeps its last values, and owns the port when it is its turn."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

from otel_cc import guard
from otel_cc.metrics.pull.directory import SNAPSHOT, Directory
from otel_cc.metrics.pull.ledger import PATIENCE, Ledger
from otel_cc.metrics.pull.lock import Lock
from otel_cc.metrics.pull.server import Endpoint
from otel_cc.metrics.pull.snapshot import Snapshot, encode

logger = logging.getLogger("otel_cc")

# Seconds: what a process that is killed may lose of its counts since the last scrape, which keeps them as well.
KEEP = 5.0
# Seconds until another process serves when the one that does has ended.
TURN = 0.5
# Seconds between two tries to get a port that somebody else has.
RETRY = 2.0


class Member:
    """Runs in a thread of its own.

    :param collect: everything that this process has counted
    :param host: where the owner listens
    """

    def __init__(self, directory: Directory, host: str, port: int, collect: Callable[[], Snapshot]) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._directory = directory
        self._address = (host, port)
        self._collect = collect
        self._turn = Lock(directory.path / "owner.lock")
        # Around everything that reads or writes what this process has counted.
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._endpoint: Endpoint | None = None
        self._ledger: Ledger | None = None
        self._shown: set[object] = set()
        self._complained = self._stopped = False
        self._next_try = self._next_keep = 0.0

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="otel-cc-pull", daemon=True).start()

    def keep(self, timeout: float = 2.0, *, last: bool = False) -> bool:
        """Write down what this process has counted, so that it outlives it.

        :param timeout: seconds to wait for whoever is at it already
        :param last: nothing may be written after it
        """
        if not self._lock.acquire(timeout=max(timeout, 0.2)):
            return False
        try:
            if self._stopped or not self._entered():
                return False
            self._write(self._marked())
            self._stopped = last
            return True
        finally:
            self._lock.release()

    def stop(self, timeout: float = 2.0) -> None:
        """Keep the last values and leave: the siblings go on."""
        self.keep(timeout, last=True)
        self._stopped = True
        self.drop()

    def drop(self) -> None:
        """Close every file and socket; in a forked child they are its parent's, which keeps them."""
        for held in (self._endpoint, self._listener):
            if held is not None:
                held.close()
        self._turn.release()
        self._endpoint = self._listener = self._ledger = None

    # The thread.

    def _run(self) -> None:
        while not self._stopped:
            try:
                if time.monotonic() >= self._next_keep:
                    self._next_keep = time.monotonic() + KEEP
                    self._keep_now()
                self._take_turn()
                self._answer_one()
            except Exception:
                if not self._stopped:
                    guard.warn_once("pull member", guard.FAILED, "the metrics for Prometheus", exc_info=True)
                    time.sleep(TURN)
        self.drop()

    def _keep_now(self) -> None:
        self.keep()
        if self._ledger is not None:
            self._ledger.tidy()
            self._directory.touch("entrance.lock", "owner.lock")

    def _entered(self) -> bool:
        """Whether this process is a member: only then may it write, or it would be taken for one that is dead."""
        if self._listener is not None and not self._directory.touch(f"{self.name}.sock"):
            # Somebody cleaned the folder: nobody would find us any more.
            self._listener.close()
            self._listener = None
        if self._listener is None:
            try:
                listener = self._directory.enter(self.name)
            except OSError as error:
                guard.warn_once(
                    "pull folder",
                    "metrics are not served to Prometheus, because %s cannot be used (%s): set OTEL_CC_STATUS_DIR.",
                    self._directory.path,
                    error,
                )
                return False
            listener.settimeout(TURN)
            self._listener = listener
        return True

    def _answer_one(self) -> None:
        listener = self._listener
        if listener is None:
            time.sleep(TURN)
            return
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            try:
                connection.settimeout(1.0)
                if connection.recv(1) == SNAPSHOT:
                    # The owner takes the answers one after the other.
                    connection.settimeout(2 * PATIENCE)
                    connection.sendall(self._answer())
            except OSError:
                # Whoever asked is gone, or does not take the answer.
                pass

    def _answer(self) -> bytes:
        """What this process has counted; from now on its series have been shown."""
        with self._lock:
            if self._stopped:
                return b""
            marked = self._marked()
            for key, family in marked.families.items():
                self._shown.update((key, labels) for labels, point in family.series.items() if getattr(point, "new", 0))
            # Written before it is shown: what was on a page is never taken back, even if this process dies now.
            self._write(marked.seen() if marked.news else marked)
            return encode(marked)

    def _marked(self) -> Snapshot:
        """What this process has counted; series that were shown are no longer new."""
        found = self._collect()
        found.run = self._directory.run
        for key, family in found.families.items():
            for labels, point in family.series.items():
                if getattr(point, "new", False) and (key, labels) in self._shown:
                    family.series[labels] = type(point)(point.value)
        return found

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._directory.write(self.name, snapshot)
        except OSError as error:
            guard.warn_once("pull file", "%s cannot be written (%s): make room.", self._directory.path, error)

    # The port.

    def _take_turn(self) -> None:
        """Own the port, when nobody else does."""
        if self._listener is None or time.monotonic() < self._next_try:
            return
        if self._endpoint is not None:
            if self._turn.held():
                return
            self._endpoint.close()
            self._endpoint = self._ledger = None
        if not self._turn.take():
            return
        host, port = self._address
        ledger = Ledger(self._directory)
        try:
            self._endpoint = Endpoint(host, port, ledger.scrape)
        except OSError as error:
            self._next_try = time.monotonic() + RETRY
            self._complain(error)
            return
        self._ledger = ledger
        self._complained = False
        shown = f"[{host}]" if ":" in host else host
        logger.info("the metrics of all processes of this service are at http://%s:%d/metrics.", shown, port)

    def _complain(self, error: OSError) -> None:
        if self._complained:
            return
        self._complained = True
        host, port = self._address
        if error.errno == errno.EADDRINUSE:
            logger.error(
                "metrics are not served: port %d of %s is taken by another program or service; give this one another "
                "port with OTEL_EXPORTER_PROMETHEUS_PORT (it is tried again every %g s).",
                port,
                host,
                RETRY,
            )
        else:
            logger.error(
                "metrics are not served at port %d of %s (%s): correct OTEL_EXPORTER_PROMETHEUS_HOST or "
                "OTEL_EXPORTER_PROMETHEUS_PORT (it is tried again every %g s).",
                port,
                host,
                error,
                RETRY,
            )
