"""``otel-cc status``: what runs is shown, what is gone is forgotten, and nothing is no error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from otel_cc.cli.status import read

STATE: dict[str, Any] = {
    "kind": "asgi",
    "version": "9.9.9",
    "service": "shop-api",
    "command": "uvicorn app:app",
    "instrumented": {"fastapi": "own", "sqlalchemy": "own"},
    "skipped": {"celery": "celery is not installed"},
    "destinations": {"traces": "http://collector:4318", "metrics": "http://collector:4318", "logs": "nowhere"},
    "other_tracers": ["ddtrace"],
    "problems": ["OTEL_CC_SQL_COMMENT='x' is not understood."],
}


def write(folder: Path, pid: int, **changes: Any) -> Path:
    file = folder / f"{pid}.json"
    file.write_text(json.dumps({**STATE, "pid": pid, "started": time.time(), **changes}))
    return file


def status(folder: Path | str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "otel-cc"), "status", *args],
        env={"OTEL_CC_STATUS_DIR": str(folder), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_running_process_is_shown_with_all_it_said(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), started=time.time() - 3)
    done = status(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    header, row, _, command, *notes = done.stdout.splitlines()
    assert header.split() == ["PID", "SERVICE", "KIND", "UP", "INSTRUMENTED", "TELEMETRY", "GOES", "TO"]
    assert row.split("  ")[0] == str(os.getpid())
    assert "fastapi (own), sqlalchemy (own)" in row
    assert "http://collector:4318 (traces, metrics); nowhere (logs)" in row
    assert command == f"{os.getpid()}  uvicorn app:app"
    assert notes == [
        "  skipped celery: celery is not installed",
        "  ddtrace traces this process too",
        "  OTEL_CC_SQL_COMMENT='x' is not understood.",
    ]


def test_json_is_what_the_processes_wrote(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), started=time.time() - 5)
    write(tmp_path, os.getppid(), kind="celery worker")
    done = status(tmp_path, "--json")
    assert done.returncode == 0
    states = json.loads(done.stdout)
    assert [(state["pid"], state["kind"]) for state in states] == [
        (os.getpid(), "asgi"),
        (os.getppid(), "celery worker"),
    ]
    assert states[0].items() >= STATE.items()


@pytest.mark.parametrize("missing", [True, False])
def test_nothing_running_is_a_sentence_and_no_error(tmp_path: Path, missing: bool) -> None:
    folder = tmp_path / "missing" if missing else tmp_path
    done = status(folder)
    assert (done.returncode, done.stdout) == (0, f"No instrumented process is running (looked in {folder}).\n")
    assert json.loads(status(folder, "--json").stdout) == []


def test_switched_off_says_so() -> None:
    done = status("off")
    assert done.returncode == 1
    assert done.stderr == "No status is written, because OTEL_CC_STATUS_DIR is off: set it to a folder.\n"


def test_the_files_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    gone = write(tmp_path, child.pid)
    # A later process got the number: this one began after the file was written.
    reused = write(tmp_path, os.getpid(), started=1.0)
    broken = tmp_path / "3.json"
    broken.write_text("{")
    foreign = tmp_path / "4.json"
    foreign.write_text("[]")
    assert read(tmp_path) == []
    assert [file.exists() for file in (gone, reused, broken, foreign)] == [False] * 4


def test_markup_in_a_name_is_shown_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), service="[red]shop[/red]", skipped={"[x]": "[/]"})
    done = status(tmp_path)
    assert done.returncode == 0
    assert "[red]shop[/red]" in done.stdout
    assert "skipped [x]: [/]" in done.stdout
