"""``otel-cc stack`` as a user runs it: everything comes up, what was sent is what Prometheus says, and nothing is left."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from otel_cc.local import demo, jaeger_client, lookup, proctree, prometheus_client, stack, traffic
from otel_cc.local import record as records
from otel_cc.local.evidence import HEADER, Request
from otel_cc.local.process import Processes, free_port, wait_until

NAMES = [
    *("postgresql", "valkey", "jaeger", "alertmanager", "prometheus", "postgres_exporter", "redis_exporter"),
    *("collector", "shop-api", "shop-worker"),
]
PATIENCE = 60.0


class Command:
    """``otel-cc stack`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "TMPDIR": str(folder), "XDG_STATE_HOME": str(folder / "state")}
        self.state = folder / "state" / "otel-cc" / "stack"

    def argv(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).parent / "otel-cc"), "stack", *words]

    def __call__(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*words), env={**self.env, **env}, capture_output=True, text=True, timeout=170, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def status(self, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json", code=code).stdout)
        return found

    def left(self) -> list[str]:
        """Processes that have the folder in their command line, environment or working directory, or an open port."""
        found = []
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                text = " ".join([*process.cmdline(), *process.environ().values(), process.cwd()])
            except psutil.Error:
                continue
            if str(self.folder) in text:
                found.append(f"{process.pid}: {text[:200]}")
        return found


@pytest.fixture
def command() -> Iterator[Command]:
    # Not pytest's folder, which the user that runs PostgreSQL cannot enter.
    with tempfile.TemporaryDirectory(prefix="stack-test-") as name:
        Path(name).chmod(0o711)
        given = Command(Path(name))
        yield given
        given("down")
        assert given.left() == []


@pytest.fixture(scope="module")
def running(servers: Processes) -> Iterator[stack.Stack]:
    """A stack without traffic."""
    with Processes() as processes:
        yield stack.start(processes, interval="1s", logs=True)


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=30)
    except httpx.TransportError:
        return False
    return True


def test_it_comes_up_is_found_again_and_goes_down(command: Command) -> None:
    port = free_port()
    done = command("up", "--detach", "--port", f"prometheus={port}")
    assert f"prometheus    http://127.0.0.1:{port}\n" in done.stdout
    assert re.search(r"It stays up; \S*otel-cc stack down ends it\.\n", done.stderr)

    state = command.status()
    assert state["ready"] is True
    assert [program["name"] for program in state["programs"]] == NAMES
    assert all(program["ready"] for program in state["programs"])
    assert "PROGRAM" in command("status").stdout

    again = command("up", "--detach")
    assert again.stdout == done.stdout
    assert f"The stack runs already, under process {state['supervisor']}." in again.stderr

    # Traffic flows, and the request that was named is there.
    with prometheus_client.Client(f"http://127.0.0.1:{port}") as prometheus:
        routes = {"/orders", "/orders/{order_id}", "/orders/{order_id}/payment", "/customers/{customer}/average"}
        # The health check is asked by the status, and may be counted, too.
        counted = "http_server_request_duration_seconds_count"
        wait_until(lambda: prometheus.totals(counted, "http_route").keys() >= routes, PATIENCE, "every route")
    urls = {program["name"]: program["url"] for program in state["programs"]}
    with jaeger_client.Client(urls["jaeger"]) as jaeger:
        wait_until(lambda: jaeger.find(lookup.parse(state["request_id"])), PATIENCE)
    assert "shop.tasks" in command("logs", "shop-worker").stdout
    assert {line.split(" |")[0].strip() for line in command("logs").stdout.splitlines()} >= {"prometheus", "shop-api"}
    assert "choose from" in command("logs", "nothing", code=1).stderr

    done = command("down")
    assert done.stderr.splitlines()[-1] == "Stopped; nothing is left running."
    assert not answers(port)
    assert command.left() == []
    assert command("down").stderr.splitlines()[-1] == "No stack is running."
    assert command.status(code=1) == {**command.status(code=1), "ready": False, "supervisor": None, "programs": []}


def test_ctrl_c_ends_everything(command: Command) -> None:
    with open(command.folder / "err", "wb") as err:
        process = subprocess.Popen(command.argv("up", "--rate", "0"), env=command.env, stdout=err, stderr=err)
    try:
        wait_until(lambda: "Ctrl-C stops it." in (command.folder / "err").read_text(), PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert (command.folder / "err").read_text().splitlines()[-1] == "Stopped; nothing is left running."
    assert command.left() == []


def test_ctrl_c_while_it_detaches_ends_everything(command: Command) -> None:
    process = subprocess.Popen(
        command.argv("up", "--detach", "--rate", "0"), env=command.env, stderr=subprocess.PIPE, text=True
    )
    try:
        # Asking for the status takes so long that it could be ready by then.
        wait_until(lambda: (command.state / "state.json").exists() and len(command.left()) > 4, PATIENCE)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "Stopped; nothing is left running."
    assert command.left() == []


@pytest.mark.parametrize("seconds", [0, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_a_detaching_start_leaves_nothing(
    command: Command, seconds: float, signum: signal.Signals
) -> None:
    process = subprocess.Popen(
        command.argv("up", "--detach", "--rate", "0"), env=command.env, stderr=subprocess.PIPE, text=True
    )
    try:
        # It is opened for the supervisor, which has written nothing down then.
        wait_until((command.state / "supervisor.log").exists, PATIENCE)
        time.sleep(seconds)
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert command.left() == []
    assert (process.returncode, said.splitlines()[-1]) == (128 + signum, "Stopped; nothing is left running.")
    assert not (command.state / "state.json").exists()


def test_what_a_killed_supervisor_left_is_ended(command: Command) -> None:
    command("up", "--detach", "--rate", "0")
    state = command.status()
    # One program that ends by itself is told.
    collector = next(program for program in state["programs"] if program["name"] == "collector")
    os.kill(collector["pid"], signal.SIGKILL)
    wait_until(
        lambda: "collector was killed by SIGKILL. Its log ends:" in (command.state / "supervisor.log").read_text(), 30
    )
    assert "collector is not ready. Its log ends:\n    " in command("status", code=1).stderr
    # A log that somebody has removed is no reason to fail.
    Path(collector["log"]).unlink()
    assert command("status", code=1).stderr == "collector is not ready. Its log ends:\n    (no output)\n"
    done = command("logs", "collector")
    assert (done.stdout, done.stderr.split(" was removed: ")[0]) == ("", collector["log"])
    assert "collector |" not in command("logs").stdout

    os.kill(state["supervisor"], signal.SIGKILL)
    wait_until(lambda: command.status(code=1)["supervisor"] is None, 30)
    assert "otel-cc stack down ends what it left" in command("status", code=1).stderr
    assert command.left() != []
    assert "Ended what a killed supervisor had left: shop-worker, shop-api, " in command("down").stderr
    assert command.left() == []


def test_a_missing_program_is_one_line(command: Command) -> None:
    with tempfile.TemporaryDirectory() as empty:
        done = command("up", code=1, OTEL_CC_PROGRAMS=empty, PATH="/usr/bin:/bin")
    assert done.stderr == (
        "the program otelcol-cc is missing: run `make tools`, or set OTEL_CC_PROGRAMS to its folder.\n"
    )


def test_a_port_that_is_in_use_is_one_line(command: Command, sink: Any) -> None:
    done = command("up", "--port", f"jaeger={sink.port}", code=1)
    assert re.fullmatch(
        rf"port {sink.port} for jaeger cannot be used \(Address already in use\): .* --port jaeger=NUMBER\.\n",
        done.stderr,
    )
    assert "there is no port named beer" in command("up", "--port", "beer=1", code=1).stderr
    for wrong in (
        "jaeger",
        "jaeger=",
        "jaeger=0",
        "jaeger=65536",
        "jaeger=-1",
        "jaeger=\u00b2",
        "jaeger=" + "1" * 5000,
    ):
        assert "is not NAME=NUMBER" in command("up", "--port", wrong, code=1).stderr
    assert command("up", "--port", "jaeger=20001", "--port", "otlp=20001", code=1).stderr == (
        "port 20001 is given to jaeger and to otlp: choose another with --port.\n"
    )


def test_the_commands_that_it_names_can_be_pasted(command: Command) -> None:
    folder = command.folder / "a b"
    for words, code in ((("status",), 1), (("logs",), 1)):
        said = command(*words, "--folder", str(folder), code=code, PATH="/usr/bin:/bin").stderr
        (named,) = re.findall(r"^No stack is running: (.*)\.$", said, re.MULTILINE)
        assert shlex.split(named) == [*command.argv("up"), "--folder", str(folder)]


def test_a_folder_that_is_none_is_one_line(command: Command) -> None:
    file = command.folder / "file"
    file.touch()
    for verb in ("up", "down"):
        said = command(verb, "--folder", str(file), code=1).stderr.splitlines()[-1]
        assert said == f"{file} cannot be used (File exists): choose another --folder."
    for verb in ("status", "logs"):
        assert command(verb, "--folder", str(file), code=1).stderr.startswith("No stack is running: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["up"], "cannot be written (File too large): make room, or choose another --folder."),
        (["up", "--detach"], "supervisor.log: is the disk full?"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_line(command: Command, words: list[str], sentence: str) -> None:
    # A limit of zero bytes for each file does to a write what a full disk does.
    done = subprocess.run(
        command.argv(*words),
        env=command.env,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1][-len(sentence) :]) == (1, sentence)
    assert "Traceback" not in done.stderr and command.left() == []


def test_a_record_knows_a_process_by_its_start(tmp_path: Path) -> None:
    record = records.Record(tmp_path)
    assert record.acquire()
    assert not records.Record(tmp_path).acquire()
    record.begin()
    assert record.supervisor() == os.getpid()
    state = json.loads((tmp_path / "state.json").read_text())
    state["supervisor"][1] += "0"
    # A later process with the number of an earlier one is not touched.
    us = state["supervisor"]
    state["started"] = [{"name": "us", "leader": us, "seen": [us]}]
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert record.supervisor() is None
    assert record.clean() == []
    record.release()


def test_a_record_from_before_a_restart_of_the_machine_ends_nothing(tmp_path: Path) -> None:
    """A process of then may have the number, and even the start, of a stranger of now."""
    record = records.Record(tmp_path / "stack")
    assert record.acquire()
    record.begin()
    (scratch := tmp_path / "scratch").mkdir()
    with Processes() as processes:
        stranger = processes.start("stranger", ["sleep", "600"])
        record.started(stranger)
        file = tmp_path / "stack" / "state.json"
        state = {**json.loads(file.read_text()), "scratch": str(scratch), "ready": True}
        file.write_text(json.dumps({**state, "boot": "another"}))
        assert record.supervisor() is None
        assert record.clean() == []
        assert stranger.running
        assert not scratch.exists()
        file.write_text(json.dumps(state))
        assert record.clean() == ["stranger"]
    record.release()


def test_nothing_listens_beyond_loopback(running: stack.Stack) -> None:
    heard: dict[str, set[str]] = {}
    for program in running.programs:
        for pid, _started in proctree.family(program.process.identity):
            try:
                sockets = psutil.Process(pid).net_connections("inet")
            except psutil.NoSuchProcess:
                # PostgreSQL has processes that come and go.
                continue
            for socket in sockets:
                # What is connected to somebody listens to nobody else.
                if not socket.raddr:
                    heard.setdefault(program.name, set()).add(socket.laddr.ip)
    assert heard.keys() == {*NAMES, "victoria-logs"} - {"shop-worker"}
    assert set().union(*heard.values()) <= {"127.0.0.1", "::1"}, heard


def test_what_was_sent_is_what_prometheus_says(running: stack.Stack) -> None:
    began = time.time()
    sender = traffic.Traffic(running.shop.port, 40)
    assert demo.send(running.shop.port, traffic.first()).status == 201
    sender.start()
    time.sleep(4)
    sender.stop()
    truth: Counter[str] = Counter({"201": 1})
    for (_method, _path, status), number in sender.sent.items():
        truth[str(status)] += number
    assert "0" not in truth
    errors = {status: number for status, number in truth.items() if status >= "400"}
    with prometheus_client.Client(running.prometheus.url) as prometheus:
        wanted = {
            ("http_server_request_duration_seconds_count", "http_response_status_code"): dict(truth),
            ("commandcenter_errors_total", "status_code"): errors,
        }
        wait_until(lambda: all(prometheus.totals(*asked) == said for asked, said in wanted.items()), 60, repr(wanted))
        # Each charge is tried twice, each order invoiced once.
        runs = {"RETRY": truth["202"], "SUCCESS": truth["201"] + truth["202"]}
        wait_until(
            lambda: prometheus.totals("celery_task_executions_total", "celery_task_state") == runs, 60, repr(runs)
        )
        labels = prometheus.instant("http_server_request_duration_seconds_count")[0].labels
        assert labels["job"] == "shop/shop-api"
        assert labels["instance"] == labels["service_instance_id"]
        assert labels["deployment_environment_name"] == "local"
        # An exemplar leads to a trace.
        exemplars = prometheus.exemplars("http_server_request_duration_seconds_bucket", began, time.time())
        trace_id = exemplars[0]["labels"]["trace_id"]
        with jaeger_client.Client(running.jaeger.url) as jaeger:
            assert wait_until(lambda: jaeger.trace(trace_id), 30)
        ups = dict.fromkeys(("prometheus", "alertmanager", "otelcol", "jaeger", "postgres", "valkey"), 1.0)
        # On a busy machine one may have answered too late once.
        wait_until(
            lambda: {sample.labels["job"]: sample.value for sample in prometheus.instant("up")} == ups, 60, repr(ups)
        )


def test_a_trace_is_found_by_both_of_its_ids_and_not_by_another(running: stack.Stack) -> None:
    given = f"order-{uuid.uuid4().hex[:8]}"
    order = traffic.first()
    assert demo.send(running.shop.port, Request(**{**vars(order), "headers": {HEADER: given}})).status == 201
    with jaeger_client.Client(running.jaeger.url) as jaeger:

        def complete() -> list[Any]:
            found = jaeger.find(lookup.Lookup(given, None, given))
            return found if found and found[0].services == ["shop-api", "shop-worker"] else []

        (found,) = wait_until(complete, 30)
        assert found.request_ids == [given]
        assert {span.span_id for span in jaeger.trace(found.trace_id)} == {span.span_id for span in found.spans}
        assert jaeger.find(lookup.parse(f"{given}-not")) == []


def test_the_log_of_the_database_and_of_the_shop_have_the_trace(running: stack.Stack) -> None:
    order = traffic.first()
    demo.send(running.shop.port, order)
    assert running.victoria_logs is not None
    url = f"{running.victoria_logs.url}/select/logsql/query"

    def services() -> set[str]:
        asked = {"query": f"trace_id:{order.headers[HEADER].replace('-', '')}"}
        lines = httpx.post(url, data=asked, trust_env=False, timeout=30).text.splitlines()
        return {json.loads(line)["service.name"] for line in lines}

    wait_until(lambda: services() == {"postgresql", "shop-api", "shop-worker"}, 30)


def test_the_demo_holds_with_the_stack() -> None:
    argv = [str(Path(sys.executable).parent / "otel-cc"), "demo", "--stack", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert [check["ok"] for check in answer["lookups"]] == [True] * 14
    assert [metric["ok"] for metric in answer["metrics"]] == [True] * 3
