"""The rules of the house that a tool can check: commands, generated pages, versions, and what must not be committed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from otel_cc import __version__, settings
from otel_cc.metrics.catalogue import CATALOGUE
from tools import interpreters, marked, pages, venv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted((ROOT / "constraints").glob("*.lock"))
MADE = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}


def files() -> Iterator[Path]:
    """What is committed, or could be: every file that git does not ignore."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith(".egg-info")]
        yield from (Path(folder) / name for name in names)


def texts() -> Iterator[tuple[str, str]]:
    for path in files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield str(path.relative_to(ROOT)), data.decode()


def lines_with(pattern: str) -> list[str]:
    """Each line of the checkout that matches, with its place."""
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_plain_make_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    explained = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert list(explained) == targets
    assert set(targets) == set(makefile.partition(".PHONY:")[2].partition("\n")[0].split())
    assert {"demo", "tools", "test", "test-fast", "check", "bench", "clean"} <= set(targets)


def test_ci_runs_the_commands_that_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    for command in ("make tools", "make check", "make test", "make matrix"):
        assert command in script
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_the_generated_pages_are_current() -> None:
    assert pages.stale() == [], "run make docs"


def test_the_pages_have_every_setting_and_every_instrument() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    assert [setting for setting in settings.SETTINGS if f"| `{setting.variable}` |" not in table] == []
    table = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in CATALOGUE if f"| `{name}` (" not in table] == []


def test_only_the_generated_part_of_a_page_is_renewed() -> None:
    page = "before\n<!-- versions: from a file, by `make docs` -->\nold\n<!-- end of versions -->\nafter\n"
    assert marked.replaced(page, "versions", "a file", "new\n") == page.replace("old", "new")
    with pytest.raises(SystemExit, match="lacks the comment lines around its bounds"):
        marked.replaced(page, "bounds", "a file", "new\n")


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert metadata.version("otel-cc") == __version__
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == __version__, "the changelog begins with the version of the package"
    # What pins packages may happen to pin one at the same version.
    pins = (".lock:", "go.sum:", "go.mod:")
    places = lines_with(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    places = [line for line in places if not any(pin in line for pin in pins)]
    assert sorted(place.partition(":")[0] for place in places) == ["CHANGELOG.md", "otel_cc/version.py"]


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = interpreters.supported()[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest


def test_dependencies_are_ranges() -> None:
    """An exact pin of an OpenTelemetry package would make mixed versions unresolvable."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(one for extra in extras for one in extra)]:
        assert "==" not in requirement


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.stem for lock in LOCKS])
def test_a_lock_file_has_names_versions_and_hashes_and_nothing_else(lock: Path) -> None:
    for entry in venv.pins(lock.read_text()):
        assert re.fullmatch(
            r"[a-z0-9-]+==[^\s;]+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", entry
        ), entry


def test_the_newest_lock_file_has_every_package_that_is_asked_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *(one for extra in extras.values() for one in extra)]
    asked += [one for group in PROJECT["dependency-groups"].values() for one in group if isinstance(one, str)]
    names = {re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-") for requirement in asked}  # type: ignore[index]
    locked = {entry.partition("==")[0] for entry in venv.pins((ROOT / "constraints" / "newest.lock").read_text())}
    assert names - {"otel-cc"} - locked == set(), "run make lock"


ENTRY_POINTS = [entry for entry in metadata.distribution("otel-cc").entry_points if entry.group != "console_scripts"]


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=[f"{entry.group}-{entry.name}" for entry in ENTRY_POINTS])
def test_an_entry_point_leads_somewhere(entry: metadata.EntryPoint) -> None:
    assert entry.load() is not None


def test_no_place_of_one_machine_is_committed() -> None:
    assert lines_with(r"(?<![\w.])/(?:root|work|home|Users|farm)/") == []


def test_no_package_server_is_named() -> None:
    servers = r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org|repo1?\.maven|crates\.io"
    assert lines_with(rf"{servers}|index-url\s*=") == []


def test_no_test_is_skipped() -> None:
    """A test that cannot run here fails and says what is missing; a skip would hide that nothing was tested."""
    assert lines_with(r"pytest\.(?:skip|importorskip|xfail)\(|mark\.(?:skip|skipif|xfail)\b") == []


def test_several_processes_share_the_tests_by_file() -> None:
    """Or each of them starts the servers of each file again, which pytest-xdist's own groups do with pytest 9.2."""
    files = ("tests/test_context.py", "tests/test_guard.py", "tests/test_request_id.py")
    arguments = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m pytest -n" in line)
    chosen = re.findall(r"--dist \S+|--no\S+", arguments)
    program = [sys.executable, "-m", "pytest", "-v", "-n", "2", *" ".join(chosen).split(), *files]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=True)
    found = set(re.findall(r"\[(gw\d)\] .* PASSED (\S+?)::", done.stdout))
    assert sorted(file for _, file in found) == list(files)
    assert {process for process, _ in found} == {"gw0", "gw1"}
