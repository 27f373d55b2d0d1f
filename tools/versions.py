"""What tools/versions.json says: each program written in Go that tests and the local stack run, and what builds it."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILE = ROOT / "tools" / "versions.json"
GO = ROOT / "tools" / "go"


@dataclass(frozen=True)
class Program:
    """One program.

    :param version: its release, without "v"; the image in compose.yaml has the same
    :param licence: its SPDX identifier
    :param purpose: what we need it for
    :param folder: the Go module below tools/go that pins it
    :param check: the arguments that make it print its version and end
    :param module: the Go module that it comes from and its version in Go's numbering; empty: our own or generated source
    :param package: its folder inside of ``module``
    :param tags: build tags
    :param variable: the Go variable that holds its version
    :param says: what ``check`` makes it print; default: its version
    :param image: the container image of the same release
    """

    name: str
    version: str
    licence: str
    purpose: str
    folder: str
    check: tuple[str, ...]
    module: str = ""
    package: str = ""
    tags: str = ""
    variable: str = ""
    says: str = ""
    image: str = ""

    @property
    def source(self) -> Path:
        """The folder of the Go module that pins it."""
        return GO / self.folder

    @property
    def target(self) -> str:
        """What ``go build`` is given: a package of a pinned module, or the source in the folder itself."""
        if (self.source / "main.go").exists():
            return "."
        return "/".join(filter(None, (self.module.split()[0], self.package)))

    @property
    def flags(self) -> list[str]:
        """The flags of ``go build``; they decide what comes out, so they are a part of the key."""
        # Without symbols the files are a third smaller.
        link = "-s -w" + (f" -X {self.variable}={self.version}" if self.variable else "")
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-tags={self.tags}", f"-ldflags={link}"]

    @property
    def key(self) -> str:
        """Changes when the program that comes out would be another one: sources, pins, flags, kind of machine.

        Go's own version is left out: a newer Go on the machine is no reason to build for half an hour.
        """
        digest = hashlib.sha256(json.dumps([sys.platform, platform.machine(), self.target, *self.flags]).encode())
        for file in sorted(self.source.iterdir()):
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def file(self) -> str:
        """The name of the built file in the cache, e.g. ``prometheus-3.16.0-0a1b2c3d4e5f``."""
        return f"{self.name}-{self.version}-{self.key}"


def read() -> dict[str, Any]:
    """The whole file."""
    return dict(json.loads(FILE.read_text()))


def programs() -> dict[str, Program]:
    """The programs by name, in the order in which they are built."""
    return {
        name: Program(name, **{**entry, "check": tuple(entry["check"])}) for name, entry in read()["programs"].items()
    }
