"""Which processes belong to a program: its session, its group and its descendants, even those that left both.

PostgreSQL's backends and Celery's detached children make sessions of their own, so a signal to the group is not enough.
A process is known by its number and its start time, because numbers are used again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One process of the system's table."""

    parent: int
    group: int
    session: int
    state: str
    started: str


Identity = tuple[int, str]


def table() -> dict[int, Row]:
    """All processes of the machine."""
    return _from_proc() if Path("/proc/self/stat").exists() else _from_ps()


def _from_proc() -> dict[int, Row]:
    rows = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:
                continue
            # The name, in parentheses, may itself hold spaces and parentheses.
            fields = text[text.rindex(")") + 2 :].split()
            rows[int(entry)] = Row(int(fields[1]), int(fields[2]), int(fields[3]), fields[0], fields[19])
    return rows


def _from_ps() -> dict[int, Row]:
    rows = {}
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,lstart="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, group, state, started = line.split(None, 4)
        rows[int(pid)] = Row(int(parent), int(group), int(group), state[0], started)
    return rows


def identity(pid: int) -> Identity:
    """A process as one that cannot be mistaken for a later one with its number; its child must not be reaped yet."""
    return pid, table()[pid].started


@cache
def boot() -> str:
    """Which run of the machine or of the container this is: numbers and start times of processes mean nothing beyond it."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        machine = ""
    first = table().get(1)
    return f"{machine} {first.started if first else ''}"


def family(leader: Identity, seen: Collection[Identity] | None = None) -> set[Identity]:
    """The leader, its group, its session and all descendants of those, as they are now.

    :param seen: members of before, for a leader that is not our child. A number is used again when its group and its
        session are empty, so without the leader they are its own only while one of these is in them; many a daemon has
        the session of a process that has ended.
    """
    rows = table()
    number, started = leader
    members = {pid for pid, began in seen or () if pid in rows and rows[pid].started == began}
    if number in rows:
        ours = rows[number].started == started
    else:
        ours = seen is None or any(number in (rows[pid].group, rows[pid].session) for pid in members)
    if ours:
        members |= {pid for pid, row in rows.items() if number in (pid, row.group, row.session)}
    while more := {pid for pid, row in rows.items() if row.parent in members} - members:
        members |= more
    return {(pid, rows[pid].started) for pid in members}


def alive(known: Iterable[Identity]) -> list[int]:
    """The numbers of those that still run."""
    rows = table()
    return [
        pid for pid, started in known if (row := rows.get(pid)) and row.started == started and row.state not in "ZX"
    ]


def kill(pid: int) -> None:
    """SIGKILL, which may come too late."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def runs(process: Identity) -> bool:
    """Whether just this process still runs."""
    return alive([process]) != []


def end(leader: Identity, seen: Collection[Identity], timeout: float) -> bool:
    """End a program that is not our child, and everything it started: ask the leader, then kill what is left.

    :param seen: see :func:`family`
    :param timeout: seconds until SIGKILL
    :return: whether there was anything to end
    """
    known = family(leader, seen)
    if not alive(known):
        return False
    if runs(leader):
        try:
            os.kill(leader[0], signal.SIGTERM)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + timeout
    while left := alive(known):
        known |= family(leader, known)
        if time.monotonic() > deadline:
            for pid in left:
                kill(pid)
        time.sleep(0.02)
    return True


def began(pid: int) -> float | None:
    """When a process began, as ``time.time()``; None when there is no such process (or only its zombie)."""
    row = table().get(pid)
    if row is None or row.state in "ZX":
        return None
    if not row.started.isdigit():
        return time.mktime(time.strptime(row.started, "%a %b %d %H:%M:%S %Y"))
    # /proc counts in clock ticks since the start of the machine.
    since_boot = int(row.started) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
