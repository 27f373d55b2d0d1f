"""One scrape of one port shows the sum of all processes, whoever comes, goes or is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from otel_cc.local.process import free_port, wait_until
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from otel_cc.metrics.pull.directory import Directory
from otel_cc.metrics.pull.member import KEEP
from otel_cc.metrics.pull.merge import merge
from tests.conftest import BIN, Launch, Server

APP = {
    "app.py": """
import os

from fastapi import FastAPI
from opentelemetry import metrics as api
from opentelemetry.metrics import Observation

from otel_cc import lifecycle, metrics

app = FastAPI()
meter = api.get_meter("app")
meter.create_observable_up_down_counter("app.processes", [lambda _: [Observation(1)]])
meter.create_observable_gauge("app.level", [lambda _: [Observation(7)]])


def count() -> None:
    metrics.counter("commandcenter.errors").add(1, {"endpoint": "/test", "status_code": "599", "error_type": "Test"})


@app.get("/")
async def root() -> int:
    count()
    return os.getpid()


@app.get("/fork")
def fork() -> None:
    pid = os.fork()
    if pid == 0:
        count()
        lifecycle.flush(5)
        os._exit(0)
    os.waitpid(pid, 0)
"""
}


class Page:
    """What is at the port."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def env(self) -> dict[str, str]:
        return {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.port)}

    def samples(self) -> Counter[str]:
        """The values by name, labels added up; empty while nobody serves."""
        found: Counter[str] = Counter()
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.port}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=30
            )
        except httpx.TransportError:
            return found
        assert answer.status_code == 200, answer.text
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if sample.labels.get("http_route", "/") == "/" and sample.labels.get("endpoint", "/test") == "/test":
                    found[sample.name] += sample.value
        return found

    def wait(self, **values: float) -> Counter[str]:
        """Wait until the page has these values, and return all."""
        last: list[Counter[str]] = []

        def reached() -> bool:
            last[:] = [self.samples()]
            return all(last[0][name] == value for name, value in values.items())

        try:
            wait_until(reached, 30)
        except TimeoutError:
            pytest.fail(f"{values} expected, the page has { {name: last[0][name] for name in values} }")
        return last[0]

    def owner(self) -> int:
        """The process that serves it; there is never another one."""
        (pid,) = {
            one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == self.port
        }
        assert pid is not None
        return pid


@pytest.fixture
def page() -> Page:
    return Page(free_port())


REQUESTS = "http_server_request_duration_seconds_count"
COUNTED = "commandcenter_errors_total"


def ask(server: Server, count: int) -> set[int]:
    """Send requests, each over a connection of its own; the processes that answered."""
    return {httpx.get(server.url, timeout=30).json() for _ in range(count)}


def of(server: Server) -> set[int]:
    """The worker processes."""
    found = set()
    for child in psutil.Process(server.process.pid).children():
        try:
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


GROUPS: dict[str, Callable[[Launch, dict[str, str]], Server]] = {
    "uvicorn": lambda launch, env: launch.uvicorn("--workers", "4", files=APP, env=env),
    "gunicorn": lambda launch, env: launch.gunicorn("--workers", "4", files=APP, env=env),
    "gunicorn --preload": lambda launch, env: launch.gunicorn("--workers", "4", "--preload", files=APP, env=env),
}


@pytest.mark.parametrize("group", GROUPS)
def test_four_workers_are_one_target_also_when_some_are_replaced(launch: Launch, page: Page, group: str) -> None:
    server = GROUPS[group](launch, page.env)
    page.wait(app_processes=4)
    ask(server, 40)
    found = page.wait(**{REQUESTS: 40, COUNTED: 40})
    assert (found["app_level"], found["target_info"]) == (7, 1)
    # The one that serves the page is killed; another one of its siblings ends in peace.
    for total, number in ((60, signal.SIGKILL), (80, signal.SIGTERM)):
        owner = page.owner()
        victim = owner if number == signal.SIGKILL else min(of(server) - {owner})
        os.kill(victim, number)
        wait_until(lambda victim=victim: victim not in of(server) and len(of(server)) == 4, 60, "the replacement")
        # Nothing is lost, and the gauges of the dead are gone.
        page.wait(**{REQUESTS: total - 20, COUNTED: total - 20}, app_processes=4)
        ask(server, 20)
        page.wait(**{REQUESTS: total, COUNTED: total}, app_processes=4)
    assert "otel-cc failed" not in server.process.output()
    server.process.stop()
    assert page.samples() == {}


def test_the_first_event_of_a_series_is_a_rise(launch: Launch, page: Page) -> None:
    server = launch.uvicorn(files=APP, env=page.env)
    page.wait(app_processes=1)
    ask(server, 3)
    assert [page.samples()[COUNTED] for _ in range(3)] == [0, 3, 3]
    ask(server, 1)
    assert page.samples()[COUNTED] == 4


def test_a_single_worker_that_is_replaced_goes_on_counting_and_a_new_start_begins_anew(
    launch: Launch, page: Page
) -> None:
    server = launch.gunicorn("--workers", "1", files=APP, env=page.env)
    page.wait(app_processes=1)
    ask(server, 5)
    page.wait(**{REQUESTS: 5})
    (worker,) = of(server)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: of(server) not in ({worker}, set()), 60, "the replacement")
    page.wait(**{REQUESTS: 5}, app_processes=1)
    ask(server, 1)
    page.wait(**{REQUESTS: 6, COUNTED: 6})
    server.process.stop()
    again = launch.gunicorn("--workers", "1", files=APP, env=page.env)
    page.wait(app_processes=1)
    ask(again, 2)
    page.wait(**{REQUESTS: 2, COUNTED: 2})


def test_all_workers_killed_at_once_and_never_scraped_lose_no_more_than_the_last_seconds(
    launch: Launch, page: Page, tmp_path: Path
) -> None:
    server = launch.gunicorn("--workers", "2", files=APP, env=page.env)
    page.wait(app_processes=2)
    ask(server, 6)

    def kept() -> float:
        (folder,) = (tmp_path / "status").glob("prometheus-*")
        directory = Directory(folder, "")
        found = merge(one for one in map(directory.read, directory.members()) if one is not None)
        family = found.families.get(("commandcenter_errors", "counter"))
        return sum(point.value for point in family.series.values()) if family else 0

    wait_until(lambda: kept() == 6, KEEP + 30, "what the workers keep")
    workers = of(server)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(of(server) - workers) == 2, 60, "the replacement")
    page.wait(**{COUNTED: 6}, app_processes=2)


def test_a_reload_goes_on_counting(launch: Launch, page: Page) -> None:
    folder = launch.write(APP)
    server = launch.uvicorn("--reload", cwd=folder, env=page.env)
    page.wait(app_processes=1)
    (before,) = ask(server, 5)
    page.wait(**{REQUESTS: 5})
    (folder / "app.py").write_text(APP["app.py"] + "# changed\n")
    wait_until(lambda: answering(server) not in (None, before), 30, "the reload")
    total = page.wait(app_processes=1)[REQUESTS]
    assert total >= 6
    ask(server, 1)
    page.wait(**{REQUESTS: total + 1})


def answering(server: Server) -> int | None:
    try:
        return int(httpx.get(server.url, timeout=30).json())
    except httpx.TransportError:
        return None


def test_a_forked_child_is_part_of_the_sum(launch: Launch, page: Page) -> None:
    server = launch.uvicorn(files=APP, env=page.env)
    page.wait(app_processes=1)
    ask(server, 2)
    httpx.get(server.url + "/fork", timeout=30)
    page.wait(**{REQUESTS: 2, COUNTED: 3}, app_processes=1)


def test_push_and_pull_together(launch: Launch, sink: Sink, page: Page) -> None:
    env = {**page.env, "OTEL_METRICS_EXPORTER": "otlp,prometheus", "OTEL_METRIC_EXPORT_INTERVAL": "300"}
    server = launch.uvicorn(files=APP, env=env)
    page.wait(app_processes=1)
    ask(server, 4)
    page.wait(**{REQUESTS: 4, COUNTED: 4})

    def pushed() -> list[float]:
        return [point.value for point in sink.latest("commandcenter.errors") if point.attributes["endpoint"] == "/test"]

    wait_until(lambda: pushed() == [4], 30)
    # Each of them shows the new series as zero first, whatever the other one has shown.
    values = [
        point.value for point in sink.metrics()["commandcenter.errors"] if point.attributes["endpoint"] == "/test"
    ]
    assert values[0] == 0


def test_a_port_that_is_taken_is_one_clear_line_and_tried_again(launch: Launch, page: Page) -> None:
    with socket.create_server(("127.0.0.1", page.port)):
        server = launch.uvicorn("--workers", "2", files=APP, env=page.env)
        wait_until(lambda: "is taken by another program" in server.process.output(), 30)
        ask(server, 3)
    page.wait(**{REQUESTS: 3}, app_processes=2)
    (line,) = (line for line in server.process.output().splitlines() if "is taken by another program" in line)
    assert f"port {page.port} of localhost" in line
    assert "OTEL_EXPORTER_PROMETHEUS_PORT" in line


def test_a_second_service_at_the_same_port_is_told_and_never_added(launch: Launch, page: Page) -> None:
    first = launch.uvicorn(files=APP, env={**page.env, "OTEL_SERVICE_NAME": "first"})
    page.wait(app_processes=1)
    second = launch.uvicorn(files=APP, env={**page.env, "OTEL_SERVICE_NAME": "second"})
    wait_until(lambda: "OTEL_EXPORTER_PROMETHEUS_PORT" in second.process.output(), 30)
    ask(first, 2)
    ask(second, 3)
    page.wait(**{REQUESTS: 2}, app_processes=1)
    first.process.stop()
    page.wait(**{REQUESTS: 3}, app_processes=1)


def test_only_this_machine_can_ask(launch: Launch, page: Page) -> None:
    launch.uvicorn(files=APP, env=page.env)
    page.wait(app_processes=1)
    addresses = {
        one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == page.port
    }
    assert addresses <= {"127.0.0.1", "::1"}


def test_all_addresses_when_the_user_says_so(launch: Launch, page: Page) -> None:
    launch.uvicorn(files=APP, env={**page.env, "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0"})
    page.wait(app_processes=1)
    (address,) = (
        one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == page.port
    )
    assert address == "0.0.0.0"


def test_a_folder_that_cannot_be_used_is_one_clear_line(launch: Launch, page: Page, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = launch.uvicorn(files=APP, env={**page.env, "OTEL_CC_STATUS_DIR": str(tmp_path / "file")})
    wait_until(lambda: "metrics are not served to Prometheus" in server.process.output(), 30)
    assert ask(server, 1)


def test_a_port_that_is_no_number_is_one_clear_line(launch: Launch, page: Page) -> None:
    server = launch.uvicorn(files=APP, env={**page.env, "OTEL_EXPORTER_PROMETHEUS_PORT": "http"})
    assert ask(server, 1)
    assert "OTEL_EXPORTER_PROMETHEUS_PORT='http' is no port" in server.process.output()


def test_a_disabled_sdk_opens_no_port(launch: Launch, page: Page) -> None:
    server = launch.uvicorn(files=APP, env={**page.env, "OTEL_SDK_DISABLED": "true"})
    assert ask(server, 1)
    server.process.stop()
    assert "metrics to nowhere (OTEL_SDK_DISABLED)" in server.process.output()
    assert "the metrics of all processes" not in server.process.output()


def test_it_costs_nothing_where_it_is_not_chosen() -> None:
    code = "import sys; print([name for name in sys.modules if 'prometheus' in name or '.pull' in name])"
    env = {**os.environ, "OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "none"}
    done = subprocess.run(
        [BIN / "opentelemetry-instrument", sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


TASKS = {
    "tasks.py": """
import os

from celery import Celery
from opentelemetry import metrics as api
from opentelemetry.metrics import Observation

from otel_cc import metrics

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.worker_prefetch_multiplier = 1
api.get_meter("app").create_observable_up_down_counter("app.processes", [lambda _: [Observation(1)]])


@app.task
def count() -> None:
    metrics.counter("commandcenter.errors").add(1, {"endpoint": "/test", "status_code": "599", "error_type": "Test"})
""",
    "publish.py": "import sys, tasks\nfor _ in range(int(sys.argv[1])): tasks.count.delay()\n",
}
POOLS = {
    "prefork": (("--concurrency", "2"), 3),
    "prefork, recycled children": (("--concurrency", "2", "--max-tasks-per-child", "2"), 3),
    "gevent": (("--pool", "gevent", "--concurrency", "2"), 1),
    "eventlet": (("--pool", "eventlet", "--concurrency", "2"), 1),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_celery_worker_and_its_children_are_one_target(launch: Launch, page: Page, valkey: Valkey, pool: str) -> None:
    arguments, processes = POOLS[pool]
    folder = launch.write(TASKS)
    env = {**page.env, "BROKER": valkey.database(9), "OTEL_TRACES_EXPORTER": "none"}
    worker = launch.worker(*arguments, cwd=folder, env=env)
    page.wait(app_processes=processes)
    publish = ["python", "publish.py", "12"]
    launch.processes.run("publish", [str(BIN / publish[0]), *publish[1:]], env=launch.environment(env), cwd=folder)
    page.wait(**{COUNTED: 12}, app_processes=processes)
    if pool == "prefork":
        main = psutil.Process(worker.pid)
        children = [child.pid for child in main.children()]
        os.kill(children[0], signal.SIGKILL)
        wait_until(lambda: children[0] not in {child.pid for child in main.children()}, 60, "the replacement")
        page.wait(**{COUNTED: 12}, app_processes=processes)
    worker.stop()
    assert "otel-cc failed" not in worker.output()
