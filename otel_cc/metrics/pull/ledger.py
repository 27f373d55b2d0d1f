"""The books of whoever owns the port: what the dead have left, added once, and the living asked each time."""

from __future__ import annotations

import threading
from dataclasses import replace

from otel_cc import guard
from otel_cc.metrics.pull.directory import PAST, Directory
from otel_cc.metrics.pull.merge import merge
from otel_cc.metrics.pull.snapshot import Snapshot

# Seconds that all siblings together may take to answer; Prometheus waits 10.
PATIENCE = 3.0


class Ledger:
    """Made by the process that takes the lock; nobody else writes the past."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._past = directory.read(PAST) or Snapshot(directory.run)
        self._discard_folded()

    def scrape(self) -> Snapshot:
        """The sum of all processes, the dead ones included."""
        # One after the other: many scrapes at once must not ask every process many times at once.
        with self._lock:
            members = self._members()
            answers = self._directory.ask(members, PATIENCE)
            living = [answer or self._directory.read(member) for member, answer in answers.items()]
            unfolded = self._fold([member for member in members if member not in answers])
            merged = merge([*(one for one in living if one is not None), self._past, *unfolded])
            if self._past.news:
                self._keep(self._past.seen())
            return merged

    def tidy(self) -> None:
        """Add up what the dead have left, so that it is one file, however many there were."""
        # A scrape does it as well, and may be waiting for the answer of the thread that is here.
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._fold([member for member in self._members() if not self._directory.alive(member)])
            self._directory.touch(f"{PAST}.json")
        finally:
            self._lock.release()

    def _fold(self, dead: list[str]) -> list[Snapshot]:
        """Move the counters of the dead into the past; what could not be moved is returned."""
        if not dead:
            return []
        left = [one.lasting() for one in map(self._directory.read, dead) if one is not None]
        folded = merge([self._past, *left])
        # Their names are in the past together with their counts: whoever dies before the files are gone counts them once.
        if not self._keep(replace(folded, folded=(*dead, *self._not_discarded))):
            return left
        self._discard_folded()
        return []

    def _members(self) -> list[str]:
        return [member for member in self._directory.members() if member not in self._past.folded]

    def _discard_folded(self) -> None:
        for member in self._past.folded:
            self._directory.discard(member)
        self._not_discarded = set(self._directory.members()).intersection(self._past.folded)

    def _keep(self, past: Snapshot) -> bool:
        past = replace(past, run=self._directory.run)
        try:
            self._directory.write(PAST, past)
        except OSError as error:
            guard.warn_once("pull past", "%s cannot be written (%s): make room.", self._directory.path, error)
            return False
        self._past = past
        return True
