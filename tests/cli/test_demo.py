"""``otel-cc demo`` as a user runs it: every check holds, a broken hop is seen, and nothing is left at any kind of end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_cc.local import application, backend, demo
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.sink import Sink


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo keeps its files; not pytest's folder, which the user that runs PostgreSQL cannot enter."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


class Demo:
    """A demo that runs; its output goes to two files."""

    def __init__(self, folder: Path, *args: str, **env: str) -> None:
        self.folder = folder
        self.files = {name: Path(f"{folder}.{name}") for name in ("out", "err")}
        with open(self.files["out"], "wb") as out, open(self.files["err"], "wb") as err:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "otel-cc"), "demo", *args],
                env={**os.environ, "TMPDIR": str(folder), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self.files["out"].read_text()

    @property
    def err(self) -> str:
        return self.files["err"].read_text()

    def wait_for(self, text: str) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.err
            return text in self.err

        wait_until(there, 120, repr(text))

    def end(self, timeout: float = 120) -> int:
        return self.process.wait(timeout)

    def left(self) -> list[str]:
        """Processes that have the folder in their command line, working directory or environment; and its files."""
        found = [str(path) for path in self.folder.rglob("*")]
        needle = str(self.folder).encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    text = b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
                    text += os.readlink(process / "cwd").encode()
                except OSError:
                    continue
                if needle in text:
                    found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
        return found


@pytest.fixture
def run(folder: Path) -> Iterator[type[Demo]]:
    started: list[Demo] = []

    class Started(Demo):
        def __init__(self, *args: str, **env: str) -> None:
            super().__init__(folder, *args, **env)
            started.append(self)

    yield Started
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(60)
        for file in one.files.values():
            file.unlink()


def test_every_check_holds_and_nothing_is_left(run: type[Demo]) -> None:
    started = run("--json")
    assert started.end() == 0, started.err
    answer = json.loads(started.out)
    assert answer["ok"] is True
    assert [(r["request"]["method"], r["request"]["path"], r["response"]["status"]) for r in answer["requests"]] == [
        ("POST", "/orders", 201),
        ("POST", "/orders", 201),
        ("GET", "/orders", 200),
        ("POST", "/orders/1/payment", 202),
        ("POST", "/orders", 422),
        ("GET", "/orders/4711", 404),
        ("GET", "/customers/nobody/average", 500),
    ]
    for request in answer["requests"]:
        assert request["problems"] == []
        assert set(request["checks"].values()) == {True}
    # The retried task ran twice, in the trace of its request.
    retried = answer["requests"][3]
    assert [span["name"] for span in retried["spans"] if span["kind"] == "CONSUMER"] == ["run shop.charge"] * 2
    assert len({request["trace_id"] for request in answer["requests"]}) == 7
    assert "Traceback" not in started.err
    assert started.left() == []


def test_it_stays_up_on_demand_and_ctrl_c_ends_it(run: type[Demo]) -> None:
    started = run(KEEP="1")
    started.wait_for("Ctrl-C stops it.")
    assert re.search(r"✓ 7 requests, \d+ checks: the ID is the same at every hop", started.out)
    assert max(len(line) for line in started.out.splitlines()) <= 110
    found = re.search(r"^API +(http://127\.0\.0\.1:\d+)/docs$", started.err, re.MULTILINE)
    assert found is not None
    with urllib.request.urlopen(f"{found[1]}/orders", timeout=30) as answer:
        assert [order["status"] for order in json.load(answer)] == ["invoiced", "paid"]
    shown = re.search(r"^status +OTEL_CC_STATUS_DIR=(\S+) otel-cc status$", started.err, re.MULTILINE)
    assert shown is not None
    command = [str(Path(sys.executable).parent / "otel-cc"), "status", "--json"]
    done = subprocess.run(command, env={"OTEL_CC_STATUS_DIR": shown[1]}, capture_output=True, timeout=60, check=True)
    assert {state["service"] for state in json.loads(done.stdout)} == {"shop-api", "shop-worker"}

    started.process.send_signal(signal.SIGINT)
    assert started.end() == 130
    assert started.err.splitlines()[-2:] == ["stopping everything ...", "Stopped; nothing is left running."]
    assert started.left() == []


@pytest.mark.parametrize("moment", ["starting PostgreSQL and Valkey", "starting the API", "sending"])
def test_ctrl_c_cleans_up_at_any_time(run: type[Demo], moment: str) -> None:
    started = run()
    started.wait_for(moment)
    time.sleep(0.1)
    started.process.send_signal(signal.SIGINT)
    assert started.end() == 130, started.err
    assert started.err.splitlines()[-1] == "Stopped; nothing is left running."
    assert "Traceback" not in started.err
    assert started.left() == []


def test_a_broken_hop_is_seen() -> None:
    """The demo's checks are worth something only if they fail when a hop is broken."""
    with Sink() as sink, Processes() as processes:
        broken = {"OTEL_CC_SQL_COMMENT": "off", "OTEL_CC_ERROR_BODY_ENABLED": "false"}
        shop = application.start(processes, sink.endpoint, extra=broken)
        all_found = demo.run(shop, backend.FromSink(sink), processes)
    failed = [{check.name for check in found.checks() if not check.ok} for found in all_found]
    assert failed == [
        {"PostgreSQL log"},
        {"PostgreSQL log"},
        {"PostgreSQL log"},
        {"PostgreSQL log"},
        {"error body"},
        {"error body", "PostgreSQL log"},
        {"error body", "PostgreSQL log"},
    ]
