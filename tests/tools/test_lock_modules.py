"""The collector's Go module is what the builder makes of the manifest."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from otel_cc.local import programs
from tools import golang, lock_modules, versions

MODULE = versions.GO / "otelcol"


@pytest.mark.programs
def test_the_generated_sources_are_those_of_the_manifest(tmp_path: Path) -> None:
    go = golang.find(programs.folder().parent, print)
    lock_modules.generate(go, Path(programs.find("builder")), tmp_path, modules=False)
    made = {file.name: file.read_text() for file in tmp_path.glob("*.go")}
    assert len(made) == 4
    assert made == {file.name: file.read_text() for file in MODULE.glob("*.go")}, "run make tools-lock"


def test_every_component_of_the_manifest_is_pinned_and_nothing_else_is_replaced() -> None:
    manifest = yaml.safe_load(lock_modules.MANIFEST.read_text())
    wanted = {
        entry["gomod"] for part in manifest.values() if isinstance(part, list) for entry in part if "gomod" in entry
    }
    text = (MODULE / "go.mod").read_text()
    pinned = {" ".join(found) for found in re.findall(r"^\t(\S+) (v\S+)$", text, re.MULTILINE)}
    assert wanted - pinned == set(), "run make tools-lock"
    assert set(re.findall(r"^(?:replace )?\t?(\S+ => .*)$", text, re.MULTILINE)) == set(manifest.get("replaces", []))


def test_generated_files_take_the_place_of_old_ones(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    shutil.copytree(MODULE, new)
    old.mkdir()
    (old / "left_over.go").touch()
    lock_modules.replace(new, old)
    assert {file.name for file in old.iterdir()} == {file.name for file in MODULE.iterdir()}
