"""The record of a running stack: one folder that says who runs it, which programs it has, and what was left by a dead one.

The supervisor holds a lock as long as it lives, so that two never share a folder; each program is written down at its
start, by number and start time, so that whoever comes after a supervisor that was killed can end what it left. What was
written before a restart of the machine or of the container names processes that are gone, by numbers of others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel_cc.local import proctree, programs
from otel_cc.local.process import Process, ProcessError, answers, listens, wait_until
from otel_cc.local.stack import Program, Stack

# How long a supervisor may take to stop everything, and an orphan to stop itself, in seconds.
STOP = 60.0
ORPHAN = 5.0


def default_folder() -> Path:
    """Where a stack keeps its state: in XDG_STATE_HOME, or in the usual place.

    :raises ProcessError: there is no home for it
    """
    return programs.of_user("XDG_STATE_HOME", ".local/state") / "otel-cc" / "stack"


class Record:
    """What is known of the stack of one folder.

    :param folder: made when something is written
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.run = self.folder / "run"
        self.log = self.folder / "supervisor.log"
        self._file = self.folder / "state.json"
        self._lock: int | None = None
        self._state: dict[str, Any] = {}

    # For everybody.

    def read(self) -> dict[str, Any]:
        """What was written last; empty when nothing was."""
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        if found.get("boot") != proctree.boot():
            return {name: found[name] for name in ("failure", "scratch") if name in found}
        return found

    def supervisor(self) -> int | None:
        """The number of the process that runs the stack now."""
        said = self.read().get("supervisor")
        return said[0] if said and proctree.runs((said[0], said[1])) else None

    # For the supervisor.

    def acquire(self) -> bool:
        """Become the supervisor of this folder; False: another one is.

        :raises ProcessError: the folder cannot be written
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ProcessError(f"{self.folder} cannot be used ({error.strerror}): choose another --folder.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def begin(self) -> None:
        """Write that we are the supervisor; what an earlier run wrote and stored is removed."""
        shutil.rmtree(self.run, ignore_errors=True)
        self._state = {
            "boot": proctree.boot(),
            "supervisor": list(proctree.identity(os.getpid())),
            "since": time.time(),
            "ready": False,
            "doing": "starting",
            "request_id": "",
            "scratch": "",
            "started": [],
            "programs": [],
        }
        self._write()

    def scratch(self) -> Path | None:
        """A folder for PostgreSQL when it runs as another user who cannot reach ours; None: ours will do."""
        if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (self.folder, *self.folder.parents)):
            return None
        made = Path(tempfile.mkdtemp(prefix="otel-cc-stack-"))
        made.chmod(0o711)
        self._state["scratch"] = str(made)
        self._write()
        return made / "postgresql"

    def started(self, process: Process) -> None:
        """Write down a program that was started."""
        self._state["started"].append({"name": process.name, "leader": process.identity, "seen": [process.identity]})
        self._write()

    def doing(self, text: str) -> None:
        """Write what is being waited for."""
        self._state["doing"] = text
        self._write()

    def ready(self, stack: Stack, request_id: str) -> None:
        """Write that everything is ready.

        :param request_id: of one request that can be looked up
        """
        now = time.time()
        for program in self._state["started"]:
            program["seen"] = sorted(proctree.family(program["leader"], program["seen"]))
        self._state |= {
            "ready": True,
            "doing": "",
            "request_id": request_id,
            "programs": [_as_json(program, now) for program in stack.programs],
        }
        self._write()

    def failed(self, text: str) -> None:
        """Write why it ends."""
        self._state["failure"] = text
        self._write()

    def end(self) -> None:
        """Remove what says that something runs; logs stay."""
        if scratch := self._state.get("scratch"):
            shutil.rmtree(scratch, ignore_errors=True)
        failure = self._state.get("failure")
        if failure:
            self._state = {"failure": failure}
            self._write()
        else:
            self._file.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let another supervisor have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._state, indent=2))
        new.replace(self._file)

    # For whoever comes after it.

    def clean(self) -> list[str]:
        """End what a supervisor left that did not live to do it itself, and return the names; needs the lock."""
        state = self.read()
        ended = [
            program["name"]
            for program in reversed(state.get("started", []))
            if proctree.end(tuple(program["leader"]), [tuple(one) for one in program["seen"]], ORPHAN)
        ]
        if scratch := state.get("scratch"):
            shutil.rmtree(scratch, ignore_errors=True)
        self._file.unlink(missing_ok=True)
        return ended

    def down(self) -> tuple[bool, list[str]]:
        """End the stack, wait for its end, and clean up after a supervisor that was killed.

        :return: whether a supervisor was there, and the names of orphans that were ended
        :raises ProcessError: the supervisor does not end
        """
        if not self.folder.exists():
            return False, []
        pid = self.supervisor()
        said = self.read().get("supervisor")
        if pid is not None:
            os.kill(pid, 15)
        try:
            wait_until(self.acquire, STOP, "the end of the stack")
            # It lets go of the lock a moment before its own end.
            wait_until(lambda: not (said and proctree.runs((said[0], said[1]))), STOP, "the end of the supervisor")
        except TimeoutError:
            raise ProcessError(
                f"the supervisor of {self.folder} (process {self.supervisor()}) still runs after {STOP:g} s: "
                "kill -9 it, then run otel-cc stack down again."
            ) from None
        try:
            return pid is not None, self.clean()
        finally:
            self.release()


def _as_json(program: Program, now: float) -> dict[str, Any]:
    pid, began = program.process.identity
    return {
        "name": program.name,
        "pid": pid,
        "started": began,
        "since": proctree.began(pid) or now,
        "url": program.url,
        "probe": program.probe,
        "log": str(program.log),
    }


def is_ready(program: dict[str, Any]) -> bool:
    """Whether a program of the record runs and answers now."""
    if not proctree.runs((program["pid"], program["started"])):
        return False
    parts = urlsplit(program["probe"])
    if not parts.scheme:
        return True
    assert parts.port is not None
    check = listens(parts.port) if parts.scheme == "tcp" else answers(parts.port, parts.path)
    try:
        # The check asks the port, not the process.
        return check(None)  # type: ignore[arg-type]
    except (TimeoutError, OSError):
        return False
