"""A virtual environment with exactly the locked packages and this checkout: ``python tools/venv.py VENV LOCK``.

It needs nothing but the Python that runs it, prints progress, and keeps pip's own words for the case that it fails. An
environment that has these packages already is only pointed at this checkout.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Progress:
    """One line that counts up on a terminal, and a line every twenty packages elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = 0
        self.live = sys.stdout.isatty()

    def step(self, name: str) -> None:
        self.count = min(self.count + 1, self.total)
        text = f"      {self.count} of {self.total}"
        if self.live:
            print(f"\r{text} {name[:40]:<40}", end="", flush=True)
        elif self.count % 20 == 0:
            print(text, flush=True)

    def end(self) -> None:
        if self.live:
            print(f"\r{'':<70}\r", end="", flush=True)


def pins(text: str) -> list[str]:
    """The entries of a lock file; each is a pin, its marker and its hashes."""
    entries: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(" "):
            entries[-1] += line
        else:
            entries.append(line)
    return entries


def run(*command: str | Path, progress: Progress | None = None) -> None:
    """Run a command silently; when it fails, print the end of what it said and stop."""
    words = [str(part) for part in command]
    last: deque[str] = deque(maxlen=30)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            if progress is not None and line.startswith("Collecting "):
                progress.step(line.split()[1])
    if progress is not None:
        progress.end()
    if process.returncode:
        sys.exit(f"{''.join(last)}This failed, see the lines above: {' '.join(words)}")


def make(venv: Path, lock: Path) -> None:
    """Make the environment anew and fill it with what the lock file pins."""
    print(f"1/3 a virtual environment for Python {sys.version.split()[0]}", flush=True)
    run(sys.executable, "-m", "venv", "--clear", venv)
    entries = pins(lock.read_text())
    print(f"2/3 the {len(entries)} packages of {lock.relative_to(ROOT)}, which takes a minute", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        # First pip itself: the one that comes with Python takes twice as long.
        file.writelines(entry for entry in entries if entry.startswith("pip=="))
        file.flush()
        install(venv, "--require-hashes", "-r", file.name)
    install(venv, "--require-hashes", "--no-compile", "-r", lock, progress=Progress(len(entries)))
    for file in venv.glob("lib/python*/site-packages/google/**/__init__.py"):
        # google-cloud-sqlcommenter declares its namespace in a way that makes every program here import setuptools,
        # which Python >= 3.12 does not come with; without these files the namespace is an ordinary one.
        if "pkg_resources" in file.read_text():
            file.unlink()
    # On all cores, which pip does not do. Files that are no Python (templates, test data) do not matter here.
    subprocess.run([venv / "bin" / "python", "-m", "compileall", "-qq", "-j", "0", venv / "lib"], check=False)


def install(venv: Path, *arguments: str | Path, progress: Progress | None = None) -> None:
    """Run pip in the environment."""
    pip = (venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input")
    run(*pip, "install", *arguments, progress=progress)


def main() -> None:
    """Make it, unless it is there."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} VENV LOCK")
    venv, lock = (Path(argument).absolute() for argument in sys.argv[1:])
    done = venv / "lock.sha256"
    wanted = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version}\n"
    if not done.exists() or done.read_text() != wanted:
        make(venv, lock)
        done.write_text(wanted)
    print("3/3 this checkout", flush=True)
    # Neither dependencies nor a build environment: both would be fetched without hashes.
    install(venv, "--no-deps", "--no-build-isolation", "--editable", ROOT)


if __name__ == "__main__":
    main()
