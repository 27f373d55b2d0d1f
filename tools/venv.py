"""Make a virtual environment with exactly the locked packages and this checkout in it: ``python tools/venv.py VENV LOCK``.

It needs nothing but the Python that runs it, prints progress, and keeps pip's own words for the case that it fails.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIP_OPTIONS = ("--disable-pip-version-check", "--no-input")


class Progress:
    """One line that counts up on a terminal, and a line every twenty packages elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self.live = sys.stdout.isatty()

    def step(self, name: str) -> None:
        self.count = min(self.count + 1, self.total)
        text = f"  {self.count} of {self.total} packages"
        if self.live:
            print(f"\r{text}: {name[:40]:<40}", end="", flush=True)
        elif self.count % 20 == 0:
            print(text, flush=True)

    def end(self) -> None:
        if self.live:
            print(f"\r{'':<70}\r", end="", flush=True)


def packages(lock: Path) -> int:
    """How many packages a lock file pins; the markers of other platforms make it a few too many."""
    return sum("==" in line and not line.startswith(" ") for line in lock.read_text().splitlines())


def run(*command: str | Path, progress: Progress | None = None) -> None:
    """Run a command silently; when it fails, print the end of what it said and stop."""
    last: deque[str] = deque(maxlen=30)
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line)
        if progress is not None and line.startswith(("Collecting ", "Requirement already satisfied: ")):
            progress.step(line.split(": ")[-1].removeprefix("Collecting ").split()[0])
    if progress is not None:
        progress.end()
    if process.wait():
        print("".join(last), end="")
        sys.exit(f"This failed, see the lines above: {' '.join(str(part) for part in command)}")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} VENV LOCK")
    venv, lock = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    python = venv / "bin" / "python"
    version = ".".join(map(str, sys.version_info[:3]))
    if not python.exists():
        print(f"1/3 a virtual environment with Python {version} in {sys.argv[1]}", flush=True)
        run(sys.executable, "-m", "venv", "--clear", venv)
    print(f"2/3 the packages of {lock} (once; about a minute)", flush=True)
    run(python, "-m", "pip", "install", *PIP_OPTIONS, "--require-hashes", "-r", lock, progress=Progress(packages(lock)))
    print("3/3 this checkout", flush=True)
    # Neither dependencies nor a build environment: both would be fetched without hashes.
    run(python, "-m", "pip", "install", *PIP_OPTIONS, "--no-deps", "--no-build-isolation", "-e", ".")


if __name__ == "__main__":
    main()
