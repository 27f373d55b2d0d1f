"""How one program is built and put in its place: compiled aside, seen to start, then renamed and linked."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import golang
from tools.golang import BuildError, Go
from tools.versions import Program

# Days after which a build that no checkout has asked for is removed.
KEPT = 30

# Seconds between two signs of life where the output is no terminal.
PULSE = 30


class Progress:
    """One line that counts up on a terminal, and a line every half minute elsewhere; on stderr, stdout is for the result.

    :param quiet: say nothing
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self._next = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            clear = f"\r{'':<100}\r" if self.live else ""
            print(f"{clear}{text}", file=sys.stderr, flush=True)

    def tick(self, name: str, seconds: float, downloaded: int, compiled: int) -> None:
        """How far one program is."""
        text = f"  {name:<18} {seconds:5.0f} s  {downloaded} modules fetched, {compiled} packages compiled"
        if self.live:
            print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)
        elif seconds < 1:
            self._next = PULSE
        elif seconds >= self._next:
            self._next += PULSE
            self.say(text)


@contextmanager
def locked(store: Path, progress: Progress) -> Iterator[None]:
    """Only one at a time: a second ``make tools`` waits."""
    with open(store / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another make tools is at work: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        # What was left by one that was killed.
        for left in store.glob(".build-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def compile_(program: Program, go: Go, made: Path, progress: Progress) -> None:
    """Run ``go build`` in the module of the program, writing to ``made``.

    :raises BuildError: it failed
    """
    command = [go.path, "build", "-v", *program.flags, "-o", str(made), program.target]
    environment = {**go.environment(), "GOTMPDIR": str(made.parent)}
    begin = time.monotonic()
    said = b""
    # A session of its own: Ctrl-C reaches only us, and we end the compilers too.
    with subprocess.Popen(
        command,
        cwd=program.source,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            while True:
                if select.select([process.stdout], [], [], 1.0)[0]:
                    piece = os.read(process.stdout.fileno(), 65536)
                    if not piece:
                        break
                    said += piece
                lines = said.count(b"\n")
                downloaded = said.count(b"go: downloading ")
                progress.tick(program.name, time.monotonic() - begin, downloaded, lines - downloaded)
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise golang.explain(go, program.name, said.decode(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Go and its compilers; at SIGINT it removes its temporary files."""
    for signum in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def prove(program: Program, made: Path) -> None:
    """See that it starts and says its version.

    :raises BuildError: it does not
    """
    try:
        done = subprocess.run(
            [made, *program.check],
            cwd=made.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if (program.says or program.version) not in said:
        raise BuildError(
            f"{program.name} was built, but `{program.name} {' '.join(program.check)}` says {said.strip()[-300:]!r} "
            f"and not {program.says or program.version}: mend its entry in tools/versions.json."
        )


def build(program: Program, go: Go, store: Path, progress: Progress) -> float:
    """Build one program and put it into the store; the seconds that it took.

    :raises BuildError: it could not be built, or does not start
    """
    begin = time.monotonic()
    progress.tick(program.name, 0, 0, 0)
    # Beside its place, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as temporary:
        made = Path(temporary) / program.name
        compile_(program, go, made, progress)
        prove(program, made)
        os.replace(made, store / program.file)
    return time.monotonic() - begin


def link(program: Program, store: Path, links: Path) -> None:
    """Let the name in ``bin`` mean this build."""
    new = links / f".{program.name}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(store / program.file, links))
    os.replace(new, links / program.name)
    os.utime(store / program.file)


def remove_old(store: Path) -> None:
    """Remove what no checkout has asked for in a month; each run renews the time of what it links."""
    for file in store.iterdir():
        if file.is_file() and not file.name.startswith(".") and time.time() - file.stat().st_mtime > KEPT * 86400:
            file.unlink()
