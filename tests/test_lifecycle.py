"""Nothing is lost at the end, and nothing holds the process longer than it may."""

from __future__ import annotations

import signal
import time

import httpx
import pytest

from otel_cc.local.sink import Sink
from tests.conftest import Launch, Server

APP = {
    "app.py": """
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root() -> dict:
    return {}
"""
}
# Nothing may be exported by the interval: only the end of the process delivers.
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}
REQUESTS = 40

SERVERS = {
    "uvicorn": lambda launch, env: launch.uvicorn(files=APP, env=env),
    "uvicorn without lifespan": lambda launch, env: launch.uvicorn("--lifespan", "off", files=APP, env=env),
    "uvicorn --workers 2": lambda launch, env: launch.uvicorn("--workers", "2", files=APP, env=env),
    "gunicorn": lambda launch, env: launch.gunicorn("--workers", "2", "--graceful-timeout", "10", files=APP, env=env),
    "gunicorn --preload": lambda launch, env: launch.gunicorn(
        "--workers", "2", "--preload", "--graceful-timeout", "10", files=APP, env=env
    ),
}


def ask(server: Server, count: int = REQUESTS) -> list[str]:
    """Send requests on a new connection each, so that every worker gets some; their trace IDs."""
    ids = []
    for _ in range(count):
        for attempt in range(50):
            try:
                ids.append(httpx.get(server.url, timeout=30).headers["x-request-id"])
                break
            except httpx.TransportError:
                # Workers of a group listen one after the other.
                assert attempt < 49
                time.sleep(0.1)
    return ids


def served(sink: Sink) -> int:
    """How many requests the durations count, over all processes."""
    return sum(point.count for point in sink.latest("http.server.request.duration"))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("kind", SERVERS)
def test_every_finished_request_is_delivered(launch: Launch, sink: Sink, kind: str, end: signal.Signals) -> None:
    server = SERVERS[kind](launch, NEVER)
    ids = ask(server)
    server.process.stop(end)
    assert sorted(span.trace_id for span in sink.spans()) == sorted(ids)
    assert served(sink) == REQUESTS


@pytest.mark.parametrize("backend", ["dead", "black hole"])
@pytest.mark.parametrize("kind", ["uvicorn", "uvicorn --workers 2", "gunicorn", "gunicorn --preload"])
def test_an_unreachable_backend_does_not_delay_the_exit(launch: Launch, sink: Sink, kind: str, backend: str) -> None:
    if backend == "dead":
        sink.stop()
    else:
        sink.black_hole()

    def exit_takes() -> float:
        server = SERVERS[kind](launch, {**NEVER, "OTEL_CC_SHUTDOWN_TIMEOUT": "2"})
        ask(server, 5)
        started = time.monotonic()
        server.process.stop(signal.SIGTERM)
        return time.monotonic() - started

    # By default it would be five seconds and more. What a busy machine adds is not ours, so the best of a few counts.
    assert any(exit_takes() < 2 + 2 for _ in range(4))


def test_supervisor_and_resource_tracker_export_nothing(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn("--workers", "2", files=APP)
    ask(server)
    server.process.stop(signal.SIGTERM)
    identities = {span.resource["service.instance.id"] for span in sink.spans()}
    exporting = {point.resource["service.instance.id"] for points in sink.metrics().values() for point in points}
    assert exporting <= identities
    assert 1 <= len(identities) <= 2


FORKS = {
    "app.py": """
import os
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root() -> dict:
    return {}


@app.get("/fork")
def fork() -> dict:
    from opentelemetry import metrics, trace
    from otel_cc import lifecycle

    pid = os.fork()
    if pid == 0:
        trace.get_tracer("child").start_span("in the child").end()
        lifecycle.flush(5)
        os._exit(0)
    os.waitpid(pid, 0)
    return {}
"""
}


def test_after_a_fork_nothing_of_the_parent_is_exported_twice(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=FORKS, env=NEVER)
    for _ in range(5):
        httpx.get(server.url, timeout=30)
    httpx.get(server.url + "/fork", timeout=30)
    server.process.stop(signal.SIGTERM)
    assert sorted(span.name for span in sink.spans()) == ["GET /", *["GET /"] * 4, "GET /fork", "in the child"]
    identities = {span.name: span.resource["service.instance.id"] for span in sink.spans()}
    assert identities["in the child"] != identities["GET /"]
    assert served(sink) == 6


SERVES = {
    "app.py": """
from fastapi import FastAPI

from otel_cc import lifecycle

begun = []


def fails() -> None:
    raise ValueError("telemetry of somebody")


lifecycle.when_serving(fails)
lifecycle.when_serving(lambda: begun.append("first"))
app = FastAPI()


@app.get("/")
async def root() -> list[str]:
    lifecycle.when_serving(lambda: begun.append("late"))
    return begun
"""
}


def test_what_begins_with_the_serving_begins_once_and_one_that_fails_costs_only_itself(
    launch: Launch, sink: Sink
) -> None:
    server = launch.uvicorn(files=SERVES, env={"OTEL_CC_STRICT": None})
    assert httpx.get(server.url, timeout=30).json() == ["first", "late"]
    assert httpx.get(server.url, timeout=30).json() == ["first", "late", "late"]
    assert server.process.output().count("ValueError: telemetry of somebody") == 1
    sink.wait_metric("process.memory.usage")
