"""The virtual environments: the same packages for every variant, ours layered over them.

``base`` has no otel-cc, so nothing of ours can win there. ``ours`` is an almost empty environment that sees the
packages of ``base`` through a path file and adds otel-cc from the checkout: everything else are the same files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(==[^\s;\\]+(?:\s*;[^\\]*)?)")


@dataclass(frozen=True)
class Environments:
    """The interpreters of the two layers.

    :param base: has stock and the pair, and no otel-cc
    :param ours: the same packages and otel-cc
    """

    base: Path
    ours: Path


def cache() -> Path:
    """The folder of the benchmark outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "otel-cc" / "bench"


def prepare() -> Environments:
    """Make the environments, or find them as an earlier run of this checkout left them."""
    requirements = (HERE / "requirements.txt").read_text()
    constraints = merged(requirements, _read(ROOT / "constraints" / "newest.lock"))
    noop = "".join(path.read_text() for path in sorted((HERE / "noop").glob("*.*")))
    home = cache() / _key(str(ROOT), sys.version)
    base, ours = home / "base", home / "ours"
    content = _key(requirements, constraints, noop)
    if not _finished(base, content):
        _create(base)
        pins = base / "constraints.txt"
        pins.write_text(constraints)
        _install(base, "-r", str(HERE / "requirements.txt"), "-c", str(pins))
        _install(base, "--no-deps", str(HERE / "noop"))
        _finish(base, content)
    # The entry points are in pyproject.toml; the code itself is read from the checkout.
    content = _key(content, _read(ROOT / "pyproject.toml"))
    if not _finished(ours, content):
        _create(ours)
        (_packages(ours) / "base.pth").write_text(f"{_packages(base)}\n")
        _install(ours, "--no-deps", "--editable", str(ROOT))
        _finish(ours, content)
    return Environments(base / "bin" / "python", ours / "bin" / "python")


def merged(requirements: str, constraints: str) -> str:
    """The constraints as plain pins, without the packages that the requirements pin themselves.

    Hashes are left out: they would have to cover the packages that only the benchmark needs.
    """
    own = {name.lower() for name, _ in _pins(requirements)}
    return "".join(f"{name}{pin.strip()}\n" for name, pin in _pins(constraints) if name.lower() not in own)


def _pins(text: str) -> list[tuple[str, str]]:
    return [match.groups() for line in text.splitlines() if (match := _PIN.match(line))]  # type: ignore[misc]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _finished(folder: Path, content: str) -> bool:
    return _read(folder / "finished") == content


def _finish(folder: Path, content: str) -> None:
    (folder / "finished").write_text(content)


def _packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _create(folder: Path) -> None:
    print(f"making {folder} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    maker = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    subprocess.run([*maker, str(folder)], check=True)


def _install(folder: Path, *what: str) -> None:
    python = str(folder / "bin" / "python")
    uv = shutil.which("uv")
    pip = [uv, "pip", "install", "--compile-bytecode", "--python", python] if uv else [python, "-m", "pip", "install"]
    subprocess.run([*pip, "--quiet", *what], check=True)
