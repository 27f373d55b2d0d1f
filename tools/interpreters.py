"""Find the Pythons of this machine: on PATH, and those of pyenv and uv, which need not be on it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A version manager's stub for a version that is not active fails here, and so does a Python without ensurepip.
_ASK = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"


def supported() -> list[str]:
    """The versions that the package declares, oldest first, such as ``["3.10", "3.11"]``."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())


def candidates(version: str) -> Iterator[Path]:
    """Where a Python of this version may be, the likeliest place first."""
    for folder in os.get_exec_path():
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local" / "share" / "uv" / "python")
    for folder in (pyenv, uv):
        yield from sorted(folder.glob(f"*{version}.*/bin/python{version}"), reverse=True)


def find() -> dict[str, Path]:
    """The supported versions that this machine has, oldest first, with the path of each."""
    found = {}
    for version in supported():
        for path in candidates(version):
            if path.is_file() and _works(path, version):
                found[version] = path
                break
    return found


def _works(path: Path, version: str) -> bool:
    try:
        answer = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == version
