"""What serving processes tell of themselves, compared with what the machine and the application know."""

from __future__ import annotations

import http.client
import threading
import time

import httpx
import psutil
import pytest

from otel_cc.local.process import says, wait_until
from otel_cc.local.signals import Point
from otel_cc.local.sink import Sink
from tests.conftest import Launch

APP = {
    "app.py": """
import gc
import threading
import time

from fastapi import FastAPI

app = FastAPI()
released = threading.Event()


@app.get("/blocks/{milliseconds}")
async def blocks(milliseconds: int) -> None:
    time.sleep(milliseconds / 1000)


@app.get("/works")
def works() -> None:
    released.wait(120)


@app.get("/release")
async def release() -> None:
    released.set()


@app.get("/burn")
def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@app.get("/collect")
async def collect() -> list[int]:
    for generation in (0, 1, 2, 2):
        gc.collect(generation)
    return [found["collections"] for found in gc.get_stats()]
"""
}
NAMES = {
    "process.cpu.time",
    "process.memory.usage",
    "process.eventloop.lag",
    "process.eventloop.blocked.time",
    "process.threadpool.tokens.used",
    "process.threadpool.tokens.max",
    "process.threadpool.pending_requests",
    "process.gc.pause.duration",
}


def processes(sink: Sink, name: str) -> set[object]:
    return {point.resource["service.instance.id"] for point in sink.latest(name)}


def after(sink: Sink, name: str) -> list[Point]:
    """The points of a collection that began after now."""
    now = time.time()

    def exports() -> int:
        return sum(export.path == "/v1/metrics" and export.at > now for export in sink.exports)

    # The first may have been on its way.
    wait_until(lambda: exports() >= 2, 30, "two exports of metrics")
    return sink.latest(name)


def test_each_serving_process_tells_everything_once_and_a_supervisor_nothing(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn("--workers", "2", files=APP, ready=says("(?s)(Application startup complete.*){2}"))
    httpx.get(server.url + "/collect", timeout=30)
    for name in NAMES - {"process.gc.pause.duration"}:
        wait_until(lambda name=name: len(processes(sink, name)) >= 2, 30, name)
    server.process.stop()
    for name in NAMES - {"process.gc.pause.duration"}:
        assert len(processes(sink, name)) == 2, name
        # Time of the loop has one more for each route that held it, if any did.
        points = [point for point in sink.latest(name) if "http.route" not in point.attributes]
        assert len(points) == (4 if name == "process.cpu.time" else 2), name


def test_gunicorns_workers_tell_and_its_master_does_not(launch: Launch, sink: Sink) -> None:
    server = launch.gunicorn("--workers", "2", "--preload", files=APP)
    names = ("process.memory.usage", "process.eventloop.lag", "process.threadpool.tokens.max")
    for name in names:
        wait_until(lambda name=name: len(processes(sink, name)) >= 2, 30, name)
    server.process.stop()
    for name in names:
        assert len(processes(sink, name)) == len(sink.latest(name)) == 2, name


def test_cpu_time_and_memory_are_what_the_system_counts(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP)
    process = psutil.Process(server.process.pid)
    httpx.get(server.url + "/burn?seconds=0.5", timeout=30)
    before = process.cpu_times()
    points = {point.attributes["cpu.mode"]: point for point in after(sink, "process.cpu.time")}
    later = process.cpu_times()
    memory = sink.latest("process.memory.usage")[0].value
    assert before.user >= 0.5
    # The system counts hundredths.
    assert before.user - 0.02 <= points["user"].value <= later.user + 0.02
    assert before.system - 0.02 <= points["system"].value <= later.system + 0.02
    assert memory == pytest.approx(process.memory_info().rss, rel=0.05)


def test_the_route_that_blocks_the_loop_is_named_with_its_time(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP)
    httpx.get(server.url + "/blocks/1", timeout=30)
    waited = 0.0
    for _ in range(2):
        began = time.monotonic()
        httpx.get(server.url + "/blocks/3000", timeout=30)
        waited += time.monotonic() - began
    after(sink, "process.eventloop.lag")
    blocked = {
        point.attributes.get("http.route"): point.value for point in after(sink, "process.eventloop.blocked.time")
    }
    # The loop was free up to the moment when its timer was due, at most 0.1 s after the beginning; on a busy machine it may
    # have had no time before.
    assert 2 * 2.9 - 0.05 <= blocked["/blocks/{milliseconds}"] <= waited + 2
    lag = sink.latest("process.eventloop.lag")[0]
    late = dict(zip((*lag.bounds, None), lag.buckets, strict=True))
    # More than two and a half seconds, less than five: a busy machine makes them a little later, and no others as late.
    assert late[5.0] == 2


def test_a_thread_pool_that_is_full_reads_100_percent(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP)
    size = wait_until(lambda: sink.latest("process.threadpool.tokens.max"), 30)[0].value

    def ask() -> None:
        # httpx would take longer to be ready for so many.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.request("GET", "/works")
        connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(int(size) + 5)]
    for thread in threads:
        thread.start()

    def seen(name: str) -> float:
        return sink.latest(name)[0].value

    wait_until(lambda: seen("process.threadpool.pending_requests") == 5, 30, "five that wait")
    assert seen("process.threadpool.tokens.used") == size
    httpx.get(server.url + "/release", timeout=30)
    for thread in threads:
        thread.join()
    wait_until(lambda: seen("process.threadpool.tokens.used") == 0, 30, "an empty pool")
    assert seen("process.threadpool.pending_requests") == 0


def test_every_garbage_collection_is_counted_by_its_generation(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP)
    first = httpx.get(server.url + "/collect", timeout=30).json()
    begin = {p.attributes["cpython.gc.generation"]: p.count for p in after(sink, "process.gc.pause.duration")}
    last = [httpx.get(server.url + "/collect", timeout=30).json() for _ in range(20)][-1]
    end = {p.attributes["cpython.gc.generation"]: p.count for p in after(sink, "process.gc.pause.duration")}
    # Those of full collections do not come by themselves in so short a time.
    assert end[2] - begin[2] == last[2] - first[2] == 40
    # Others may come before and after what the application read.
    for generation in (0, 1):
        assert abs(end[generation] - begin[generation] - (last[generation] - first[generation])) <= 20


def test_nothing_is_told_where_it_is_switched_off(launch: Launch, sink: Sink) -> None:
    launch.uvicorn(files=APP, env={"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "process"})
    server = launch.uvicorn(files=APP)
    httpx.get(server.url + "/collect", timeout=30)
    wait_until(lambda: {*sink.metrics()} >= NAMES, 30, "the metrics of the other server")
    assert len(sink.latest("process.memory.usage")) == 1
