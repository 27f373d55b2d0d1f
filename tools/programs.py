"""Build the programs of tools/versions.json: ``python -m tools.programs [NAME...]``, which is ``make tools``.

Each program is built once for each key (see :class:`tools.versions.Program`) and kept outside of the checkout; ``bin``
beside it has links to what this checkout asks for. A program appears there when it is complete and has been seen to
start, so that a build that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import fcntl
import json
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
from typing import Any

from otel_cc.local.programs import folder
from tools import golang, lock_modules, versions
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


def report(program: Program, store: Path, seconds: float | None = None) -> dict[str, Any]:
    """One entry of the result."""
    built = (store / program.file).exists()
    return {
        "name": program.name,
        "version": program.version,
        "licence": program.licence,
        "built": built,
        "bytes": (store / program.file).stat().st_size if built else None,
        "seconds": None if seconds is None else round(seconds, 1),
    }


def make(wanted: list[Program], links: Path, progress: Progress) -> list[dict[str, Any]]:
    """Build what is missing of these programs and link all of them.

    :param links: the folder ``bin``
    :return: one entry per program; ``seconds`` is None for what was there
    """
    store = links.parent / "built"
    for needed in (store, links):
        needed.mkdir(parents=True, exist_ok=True)
    entries = []
    with locked(store, progress):
        missing = [program for program in wanted if not (store / program.file).exists()]
        if missing:
            go = golang.find(links.parent, progress.say)
            progress.say(
                f"{len(missing)} of {len(wanted)} programs are built with Go {go.version}, one after the other. On an "
                "empty machine with 2 cores all take half an hour; Ctrl-C loses only the one in work."
            )
        for program in wanted:
            seconds = build(program, go, store, progress) if program in missing else None
            link(program, store, links)
            entries.append(report(program, store, seconds))
            if seconds is not None:
                progress.say(
                    f"  {program.name:<18} {seconds:5.0f} s  {_megabytes(entries[-1]['bytes'])}, {program.version}"
                )
        remove_old(store)
    return entries


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f} MB"


def present(wanted: list[Program], links: Path) -> list[dict[str, Any]]:
    """The programs in a folder that OTEL_CC_PROGRAMS names: they are used as they are.

    :raises BuildError: one is missing
    """
    missing = [program.name for program in wanted if shutil.which(program.name, path=str(links)) is None]
    if missing:
        raise BuildError(f"OTEL_CC_PROGRAMS names {links}, which lacks {', '.join(missing)}: add them, or unset it.")
    return [
        {**report(program, links), "built": True, "bytes": (links / program.name).stat().st_size} for program in wanted
    ]


def table(entries: list[dict[str, Any]]) -> str:
    """The result for people."""
    return "\n".join(
        f"  {entry['name']:<18} {entry['version']:<9} {_megabytes(entry['bytes']) or 'missing':>8}  {entry['licence']}"
        for entry in entries
    )


def arguments() -> argparse.Namespace:
    """What is asked for."""
    known = versions.programs()
    parser = argparse.ArgumentParser(prog="python -m tools.programs", description="Build the programs written in Go.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all, which are {', '.join(known)}")
    parser.add_argument("--list", action="store_true", help="only say what is there")
    parser.add_argument("--json", action="store_true", help="the result for machines, on stdout")
    parser.add_argument("--quiet", action="store_true", help="say nothing when everything is there")
    parser.add_argument("--lock", action="store_true", help="renew tools/go from versions.json and the manifest")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"there is no program {', '.join(unknown)}: known are {', '.join(known)}.")
    asked.programs = [known[name] for name in asked.names] or list(known.values())
    return asked


def run(asked: argparse.Namespace) -> None:
    """Do what is asked for."""
    links = folder()
    progress = Progress()
    if asked.lock:
        builder = make([versions.programs()["builder"]], links, progress) and links / "builder"
        lock_modules.renew(golang.find(links.parent, progress.say), builder, progress.say)
        return
    if os.environ.get("OTEL_CC_PROGRAMS"):
        entries = present(asked.programs, links)
    elif asked.list:
        entries = [report(program, links.parent / "built") for program in asked.programs]
    else:
        entries = make(asked.programs, links, progress)
    if asked.json:
        print(json.dumps({"folder": str(links), "programs": entries}, indent=2))
    elif not asked.quiet:
        print(f"{table(entries)}\nin {links}")


def main() -> None:
    """Run, and make one sentence of what goes wrong."""
    # SIGTERM ends it as Ctrl-C does: nothing goes on compiling.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(arguments())
    except BuildError as error:
        sys.exit(f"\n{error}")
    except OSError as error:
        try:
            golang.check_disk(str(error), "a program was installed", folder().parent)
        except BuildError as full:
            sys.exit(f"\n{full}")
        raise
    except KeyboardInterrupt:
        print("\nStopped. What is built is kept: make tools goes on from here.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
