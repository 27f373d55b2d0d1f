"""Renew the Go modules in tools/go from tools/versions.json and collector/manifest.yaml: ``make tools-lock``."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from tools import golang, versions
from tools.golang import Go

MANIFEST = versions.ROOT / "collector" / "manifest.yaml"


def renew(go: Go, builder: Path, say: Callable[[str], object]) -> None:
    """Renew all of them.

    :param builder: the OpenTelemetry Collector Builder
    :raises BuildError: a module cannot be had
    """
    folders: dict[str, list[versions.Program]] = {}
    for program in versions.programs().values():
        folders.setdefault(program.folder, []).append(program)
    for name, programs in folders.items():
        say(f"  tools/go/{name}")
        if name == "otelcol":
            with tempfile.TemporaryDirectory() as temporary:
                generate(go, builder, Path(temporary), modules=True)
                replace(Path(temporary), versions.GO / name)
        else:
            pin(go, versions.GO / name, programs)


def pin(go: Go, folder: Path, programs: list[versions.Program]) -> None:
    """Write the go.mod of one folder anew, keeping the versions of what is needed indirectly where they still fit."""
    if not (folder / "go.mod").exists():
        folder.mkdir(exist_ok=True)
        _run(go, folder, [go.path, "mod", "init", f"otel-cc/tools/{folder.name}"])
    edits = [f"-require={program.module.replace(' ', '@')}" for program in programs]
    edits += [f"-tool={program.target}" for program in programs if program.target != "."]
    _run(go, folder, [go.path, "mod", "edit", *edits])
    _run(go, folder, [go.path, "mod", "tidy"])


def generate(go: Go, builder: Path, output: Path, *, modules: bool) -> None:
    """Let the builder write the collector's module.

    :param output: an empty folder
    :param modules: write go.mod and go.sum too, which asks the module proxy
    """
    manifest = yaml.safe_load(MANIFEST.read_text())
    manifest["dist"].update(output_path=str(output), go=go.path)
    file = output / "manifest.yaml"
    file.write_text(yaml.safe_dump(manifest))
    options = ["--skip-compilation"] if modules else ["--skip-compilation", "--skip-get-modules"]
    _run(go, output, [str(builder), f"--config={file}", *options])
    file.unlink()


def replace(new: Path, folder: Path) -> None:
    """Put the generated files in the place of those from before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in sorted(new.iterdir()):
        shutil.copyfile(file, folder / file.name)


def _run(go: Go, folder: Path, command: list[str]) -> None:
    path = os.pathsep.join([str(Path(go.path).parent), os.environ.get("PATH", os.defpath)])
    environment = {**go.environment(), "PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise golang.explain(go, f"tools/go/{folder.name}", done.stdout + done.stderr)
