"""Build the programs of tools/versions.json: ``python -m tools.programs [NAME...]``, which is ``make tools``.

Each program is built once for each key (see :class:`tools.versions.Program`) and kept outside of the checkout; ``bin``
beside it has links to what this checkout asks for. A program appears there when it is complete and has been seen to
start, so that a build that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from otel_cc.local.process import ProcessError
from otel_cc.local.programs import folder
from tools import golang, lock_modules, versions
from tools.build import Progress, build, link, locked, remove_old
from tools.golang import BuildError
from tools.versions import Program


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
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(_unusable(needed, str(error.strerror))) from None
        if not os.access(needed, os.W_OK):
            raise BuildError(_unusable(needed, "it is read-only"))
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


def _unusable(folder: Path, why: str) -> str:
    return (
        f"{folder} cannot be used ({why}): set XDG_CACHE_HOME to a folder that can be written, or OTEL_CC_PROGRAMS to one "
        "that has the programs."
    )


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
        if os.environ.get("OTEL_CC_PROGRAMS"):
            raise BuildError(
                f"OTEL_CC_PROGRAMS names {links}, where nothing is built, and the modules are renewed with a builder of "
                "the present version: unset it for make tools-lock."
            )
        make([versions.programs()["builder"]], links, progress)
        lock_modules.renew(golang.find(links.parent, progress.say), links / "builder", progress.say)
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
    except (BuildError, ProcessError) as error:
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
