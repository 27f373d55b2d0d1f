"""One process of a machine does what is there to do once; when it is gone, however it went, another one can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_cc import settings
from otel_cc.celery.claims import Claims

HOLDER = """
import os, sys
from otel_cc.celery.claims import Claims
claims = Claims(sys.argv[1])
print([claims.take(name) for name in sys.argv[2:]], flush=True)
if os.fork() == 0:
    # A child that outlives its parent, as one of a killed worker does.
    print(claims.take("child"), os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OTEL_CC_STATUS_DIR", str(tmp_path / "status"))
    settings.get.cache_clear()
    yield tmp_path / "status"
    settings.get.cache_clear()


@contextmanager
def holder(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, *words], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answer = process.stdout.readline().strip()
        assert process.stdout.readline().startswith("True")
        yield process, answer
        process.kill()


def test_who_comes_second_gets_what_is_left(folder: Path) -> None:
    mine = Claims("redis://one")
    assert mine.take("mail")
    with holder("redis://one", "mail", "log") as (_, answer):
        assert answer == "[False, True]"
        assert [mine.take(name) for name in ("mail", "log", "other")] == [True, False, True]
    with holder("redis://two", "mail") as (_, answer):
        assert answer == "[True]"
    mine.release()
    with holder("redis://one", "mail") as (_, answer):
        assert answer == "[True]"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_the_claim_of_a_killed_process_is_free_though_its_child_lives() -> None:
    mine = Claims("redis://one")
    with holder("redis://one", "mail") as (process, answer):
        assert answer == "[True]"
        assert not mine.take("mail")
        process.kill()
        process.wait()
        assert mine.take("mail")


def test_where_nothing_can_be_locked_everybody_may(folder: Path) -> None:
    folder.write_text("no folder")
    with holder("redis://one", "mail") as (_, answer):
        assert answer == "[True]"
        assert Claims("redis://one").take("mail")


def test_a_link_that_somebody_laid_is_not_followed(folder: Path, tmp_path: Path) -> None:
    first = Claims("redis://one")
    assert first.take("mail")
    first.release()
    (file,) = folder.iterdir()
    file.unlink()
    file.symlink_to(tmp_path / "target")
    assert Claims("redis://one").take("mail")
    assert not (tmp_path / "target").exists()
