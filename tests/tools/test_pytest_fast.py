"""`make test-fast` leaves out what needs the programs of `make tools`, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

TEST = "import pytest\n\n@pytest.mark.programs\ndef test_marked(): ...\n\ndef test_plain(): ...\n"


def test_marked_tests_and_those_of_the_stack_are_left_out(tmp_path: Path) -> None:
    for folder in ("tests/stack", "tests/http", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("tests/stack", "tests/http"):
        (tmp_path / folder / "test_it.py").write_text(TEST)
    (tmp_path / "tools" / "__init__.py").touch()
    (tmp_path / "tools" / "pytest_fast.py").write_bytes((ROOT / "tools" / "pytest_fast.py").read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = programs\naddopts = --import-mode=importlib\n")
    command = [sys.executable, "-m", "pytest", "-p", "tools.pytest_fast", "--collect-only", "-q"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert [line for line in done.stdout.splitlines() if "::" in line] == ["tests/http/test_it.py::test_plain"], done
    assert "1/4 tests collected (3 deselected)" in done.stdout
