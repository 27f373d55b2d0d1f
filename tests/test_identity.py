"""Each process is an instance of its own, also where all processes of a server are given the same one."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable

import httpx
import pytest
from celery import Celery

from otel_cc.local.process import says, wait_until
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch, Server

APP = {
    "app.py": """
import os

from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()


@app.get("/")
async def root() -> int:
    return os.getpid()


@app.get("/fork")
def fork() -> int:
    from otel_cc import lifecycle

    child = os.fork()
    if child == 0:
        trace.get_tracer("child").start_span("in the child").end()
        lifecycle.flush(5)
        os._exit(0)
    os.waitpid(child, 0)
    return child
"""
}
POD = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-1,deployment.environment=test"}
REQUESTS = 60

SERVERS: dict[str, tuple[int, Callable[[Launch], Server]]] = {
    "uvicorn": (
        3,
        lambda launch: launch.uvicorn(
            "--workers", "3", files=APP, env=POD, ready=says("(?s)(Application startup complete.*){3}")
        ),
    ),
    "gunicorn": (
        2,
        lambda launch: launch.gunicorn(
            "--workers", "2", files=APP, env=POD, ready=says("(?s)(Application startup complete.*){2}")
        ),
    ),
    "gunicorn --preload": (
        2,
        lambda launch: launch.gunicorn(
            "--workers", "2", "--preload", files=APP, env=POD, ready=says("(?s)(Application startup complete.*){2}")
        ),
    ),
}


def ask(server: Server, workers: int) -> tuple[set[str], int]:
    """Send requests until every worker has answered some; their numbers, and how many requests that took."""
    answers = []
    while len(answers) < REQUESTS or len(set(answers)) < workers:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/")
        answers.append(connection.getresponse().read().decode())
        connection.close()
        assert len(answers) < 20 * REQUESTS, "some worker never answered"
    return set(answers), len(answers)


def instances(sink: Sink, name: str = "http.server.request.duration") -> set[object]:
    return {point.resource["service.instance.id"] for point in sink.latest(name)}


@pytest.mark.parametrize("kind", SERVERS)
def test_workers_share_a_name_of_the_users_and_each_has_its_own(launch: Launch, sink: Sink, kind: str) -> None:
    workers, start = SERVERS[kind]
    server = start(launch)
    numbers, sent = ask(server, workers)
    server.process.stop()
    expected = {f"pod-1.{number}" for number in numbers}
    assert instances(sink) == expected
    # Spans and metrics agree, and nothing else exported anything.
    assert {span.resource["service.instance.id"] for span in sink.spans()} == expected
    assert {point.resource["service.instance.id"] for points in sink.metrics().values() for point in points} == expected
    # The last value of each instance is what a backend keeps, whatever else it knows of the process.
    last = {p.resource["service.instance.id"]: p.count for p in sink.metrics()["http.server.request.duration"]}
    assert sum(last.values()) == sent
    assert {point.resource["deployment.environment"] for point in sink.latest("http.server.request.duration")} == {
        "test"
    }


def test_a_process_that_is_alone_keeps_the_name_and_its_child_has_its_own(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env=POD)
    child = httpx.get(server.url + "/fork", timeout=30).text
    server.process.stop()
    assert instances(sink) == {"pod-1"}
    spans = {span.name: span.resource["service.instance.id"] for span in sink.spans()}
    assert spans == {"GET /fork": "pod-1", "in the child": f"pod-1.{child}"}


def test_children_of_a_celery_worker_have_their_own(launch: Launch, sink: Sink, valkey: Valkey) -> None:
    files = {"tasks.py": TASKS}
    env = {**POD, "BROKER": valkey.database(12)}
    worker = launch.worker("--pool", "prefork", "--concurrency", "2", files=files, env=env)
    app = Celery(broker=valkey.database(12), set_as_current=False)
    sent = 0

    def children() -> set[str]:
        return set(re.findall(r"done in (\d+)", worker.output()))

    # On a busy machine one child may be done with all of them before the other one has begun.
    while sent < 20 or len(children()) < 2:
        for _ in range(20):
            app.send_task("work")
        sent += 20
        assert sent < 20 * 20, "one child never had a task"
        wait_until(lambda number=sent: worker.output().count("done in") >= number, 30, "the tasks")
    app.close()
    worker.stop()
    own = {f"pod-1.{child}" for child in children()}
    assert len(own) == 2
    # The main process counts the tasks, its children run them.
    assert instances(sink, "celery.task.executions") == {"pod-1"}
    assert sum(point.value for point in sink.latest("celery.task.executions")) == sent
    assert instances(sink, "process.cpu.time") == {"pod-1", *own}
    assert {span.resource["service.instance.id"] for span in sink.spans()} == own


TASKS = """
import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task(name="work")
def work() -> None:
    time.sleep(0.05)
    print(f"done in {os.getpid()}", flush=True)
"""


CONFIG = """
file_format: "1.0"
resource:
  attributes:
    - {{name: service.name, value: from-file}}
{more}
tracer_provider:
  processors:
    - batch:
        schedule_delay: 200
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/traces
"""


@pytest.mark.parametrize(
    ("more", "pattern"),
    [("", r"[0-9a-f-]{36}"), ("    - {name: service.instance.id, value: pod-2}", r"pod-2\.\d+")],
    ids=["unnamed", "named"],
)
def test_workers_that_are_configured_by_a_file_have_their_own(
    launch: Launch, sink: Sink, more: str, pattern: str
) -> None:
    file = launch.folder / "otel.yaml"
    file.write_text(CONFIG.format(endpoint=sink.endpoint, more=more))
    env = {"OTEL_CONFIG_FILE": str(file)}
    ready = says("(?s)(Application startup complete.*){2}")
    server = launch.uvicorn("--workers", "2", files=APP, env=env, ready=ready)
    ask(server, 2)
    server.process.stop()
    found = {str(span.resource.get("service.instance.id")) for span in sink.spans()}
    assert len(found) == 2
    assert [name for name in found if not re.fullmatch(pattern, name)] == []
