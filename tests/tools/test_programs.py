"""`make tools` builds what is missing, once, goes on after an interruption, and says what is wrong in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from otel_cc.local import programs as local
from otel_cc.local.process import ProcessError, Processes, says, wait_until
from tools import build, golang, versions

SMALL, OTHER = "compose-config", "builder"


class Cache:
    """A cache of programs in a folder of the test; Go's own caches stay those of the machine."""

    def __init__(self, folder: Path) -> None:
        self.links = folder / "otel-cc" / "programs" / "bin"
        self.store = self.links.parent / "built"
        go = golang.find(local.folder().parent, print)
        kept = {name: value for name, value in os.environ.items() if name != "OTEL_CC_PROGRAMS"}
        self.environment = {
            **kept,
            "PATH": os.pathsep.join([str(Path(go.path).parent), kept["PATH"]]),
            "XDG_CACHE_HOME": str(folder),
            **{name: go.setting(name) for name in ("GOCACHE", "GOMODCACHE")},
        }

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``make tools ARGS=...`` without make."""
        return subprocess.run(
            [sys.executable, "-m", "tools.programs", *arguments],
            cwd=versions.ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def built(self) -> list[str]:
        """What the store has, leftovers included."""
        return sorted(path.name for path in self.store.iterdir() if path.name != ".lock")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that has the smallest program."""
    made = Cache(tmp_path_factory.mktemp("cache"))
    done = made.make(SMALL)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def empty(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def entries(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return {entry["name"]: entry for entry in json.loads(done.stdout)["programs"]}


@pytest.mark.programs
def test_a_program_is_built_and_runs(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text('services: {a: {image: "x:${TAG:?name a tag}"}}\n')
    program = cache.links / SMALL
    done = subprocess.run([program], cwd=tmp_path, env={"TAG": "1"}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["services"]["a"]["image"] == "x:1"
    done = subprocess.run([program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "required variable TAG is missing a value: name a tag" in done.stderr


@pytest.mark.programs
def test_the_second_run_builds_nothing_and_takes_no_second(cache: Cache) -> None:
    before = (cache.links / SMALL).stat().st_ino
    begin = os.times()
    # Not even Go is needed.
    done = cache.make(SMALL, "--json", PATH="")
    end = os.times()
    (entry,) = entries(done).values()
    assert (entry["built"], entry["seconds"]) == (True, None)
    assert entry["bytes"] == (cache.links / SMALL).stat().st_size
    assert (cache.links / SMALL).stat().st_ino == before
    assert done.stderr == ""
    # Seconds of processor time, which other programs on the machine do not change.
    assert end.children_user + end.children_system - begin.children_user - begin.children_system < 1
    assert cache.make(SMALL, "--quiet").stdout == ""


@pytest.mark.programs
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupted_build_leaves_nothing_and_goes_on(
    cache: Cache, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    complete = cache.built()
    with Processes() as processes:
        # With an empty cache of Go it takes long enough.
        process = processes.start(
            "make tools",
            [sys.executable, "-m", "tools.programs", SMALL, OTHER],
            cwd=versions.ROOT,
            env={**cache.environment, "GOCACHE": str(tmp_path / "go")},
            ready=says("1 of 2 programs are built"),
        )
        compilers = wait_until(lambda: psutil.Process(process.pid).children(recursive=True), 30)
        os.kill(process.pid, signum)
        assert process.wait(60) == code
        assert "Stopped. What is built is kept: make tools goes on from here." in process.output()
        wait_until(lambda: not any(child.is_running() for child in compilers), 30, "the end of the compilers")
    assert cache.built() == complete
    done = cache.make(SMALL, OTHER, "--json")
    assert [entry["seconds"] is None for entry in entries(done).values()] == [True, False]
    # For the next one.
    (cache.store / versions.programs()[OTHER].file).unlink()


@pytest.mark.programs
def test_a_second_run_waits_for_the_first(cache: Cache) -> None:
    with Processes() as processes:
        with build.locked(cache.store, build.Progress(quiet=True)):
            second = processes.start(
                "make tools",
                [sys.executable, "-m", "tools.programs", SMALL],
                cwd=versions.ROOT,
                env=cache.environment,
                ready=says("Another make tools is at work: waiting for it."),
            )
            with pytest.raises(ProcessError, match=r"still runs after 0\.5 s"):
                second.wait(0.5)
        assert second.wait(60) == 0
        assert f"in {cache.links}" in second.output()


@pytest.mark.programs
def test_what_a_killed_build_left_is_removed_and_what_nobody_asks_for(cache: Cache) -> None:
    (cache.store / ".build-left").mkdir()
    (cache.store / "prometheus-1.0.0-000000000000").touch()
    os.utime(cache.store / "prometheus-1.0.0-000000000000", (0, 0))
    (cache.store / "prometheus-2.0.0-000000000000").touch()
    os.utime(cache.store / versions.programs()[SMALL].file, (0, 0))
    assert cache.make(SMALL).returncode == 0
    assert cache.built() == [versions.programs()[SMALL].file, "prometheus-2.0.0-000000000000"]
    (cache.store / "prometheus-2.0.0-000000000000").unlink()


@pytest.mark.programs
def test_a_proxy_that_cannot_be_reached_is_a_sentence(empty: Cache, tmp_path: Path) -> None:
    done = empty.make(SMALL, GOPROXY="https://user:secret@127.0.0.1:1", GOMODCACHE=str(tmp_path / "modules"))
    assert done.returncode == 1
    (sentence,) = done.stderr.strip().splitlines()[1:][-1:]
    assert sentence == (
        f"{SMALL} needs modules that the Go module proxy did not give (GOPROXY is https://127.0.0.1:1; dial tcp "
        "127.0.0.1:1: connect: connection refused): set GOPROXY to one that this machine reaches and run make tools "
        "again, what is built is kept."
    )
    assert empty.built() == []


def test_a_program_that_says_another_version_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "promtool"
    made.write_text("#!/bin/sh\necho promtool, version 1.0.0\n")
    made.chmod(0o755)
    with pytest.raises(golang.BuildError, match=r"`promtool --version` says 'promtool, version 1.0.0' and not"):
        build.prove(versions.programs()["promtool"], made)


def test_the_list_says_what_is_missing_without_go(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-m", "tools.programs", "--list"]
    done = subprocess.run(command, cwd=versions.ROOT, env=environment, capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines() if " missing " in line]
    assert names == list(versions.programs())
    assert list(tmp_path.iterdir()) == [], "it only looks"


def test_a_folder_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    environment = {"OTEL_CC_PROGRAMS": str(tmp_path), "PATH": ""}

    def make(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.programs", *names]
        return subprocess.run(command, cwd=versions.ROOT, env=environment, capture_output=True, text=True, check=False)

    (tmp_path / "pint").write_text("#!/bin/sh\n")
    (tmp_path / "pint").chmod(0o755)
    assert make("pint").returncode == 0
    done = make("pint", "jaeger", "promtool")
    sentence = f"OTEL_CC_PROGRAMS names {tmp_path}, which lacks jaeger, promtool: add them, or unset it."
    assert (done.returncode, done.stderr.strip()) == (1, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["pint"]
    done = make("--lock")
    assert (done.returncode, "unset it for make tools-lock." in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["pint"]


def test_a_cache_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Cache(tmp_path / "file").make(SMALL)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be used (Not a directory): set XDG_CACHE_HOME" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_name_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.programs", "jager"]
    done = subprocess.run(command, cwd=versions.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no program jager: known are otelcol-cc, prometheus," in done.stderr
