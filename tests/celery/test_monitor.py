"""Queues and workers are reported also when every worker is dead, by one process of those that are left."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from itertools import count
from pathlib import Path

import pytest
import redis

from otel_cc.local import valkey as local_valkey
from otel_cc.local.process import Process, Processes, free_port, listens, says, wait_until
from otel_cc.local.signals import Point, decode_metrics
from otel_cc.local.sink import Export
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch

_numbers = count()

# The same as always, only sooner.
TASKS = """
import json, os, threading, time
from celery import Celery
from otel_cc.celery import listener, monitor

monitor.INTERVAL, monitor.LISTEN, monitor.PATIENCE = 0.5, 0.25, 0.0
monitor.STALE, listener.SILENT = 2.0, 5.0
app = Celery("shop", broker=os.environ["BROKER"])
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options=json.loads(os.environ.get("OPTIONS", "{}")),
    event_exchange=os.environ.get("EVENTS", "celeryev"),
)

@app.task(name="one")
def one():
    app.send_task("other", queue=os.environ["QUEUE"] + ".other")
    print(f"threads {[thread.name for thread in threading.enumerate()]}", flush=True)
"""
# An application that publishes: it does not matter which.
API = """
import sys, threading
from tasks import app
for _ in range(int(sys.argv[1])):
    app.send_task("one", priority=0)
print("published;", [thread.name for thread in threading.enumerate()], flush=True)
threading.Event().wait()
"""
# One that has published nothing, with an application that has no broker.
IDLE = """
from celery import Celery
from fastapi import FastAPI
import tasks
eager = Celery("eager", broker="redis://127.0.0.1:1", set_as_current=False)
eager.conf.task_always_eager = True
nothing = Celery("nothing", set_as_current=False)
app = FastAPI()
"""
# One that makes an application for each of its customers, more than it may look at.
TENANTS = """
import gc, sys, threading, time
from tasks import app as shop
from celery import Celery
from otel_cc.celery import monitor

def publish(number):
    made = Celery(f"tenant{number}", broker=shop.conf.broker_url, set_as_current=False)
    made.conf.broker_transport_options = {"global_keyprefix": f"tenant{number}:"}
    made.send_task("one", queue=f"{shop.conf.task_default_queue}.{number}")
    return made

def count():
    return sum(thread.name == "otel-cc-celery-monitor" for thread in threading.enumerate())

made = [publish(number) for number in range(monitor.MOST + 4)]
print("looks at", count(), flush=True)
made.clear()
while count():
    gc.collect()
    time.sleep(0.1)
print("looks at", count(), flush=True)
made.append(publish("last"))
threading.Event().wait()
"""
# What the test itself publishes, from a process that is not instrumented.
PUBLISH = """
import os, sys
from celery import Celery
app = Celery("shop", broker=os.environ["BROKER"])
for priority in range(int(sys.argv[1])):
    app.send_task("one", queue=os.environ["QUEUE"], priority=priority)
"""
THREAD = "otel-cc-celery-monitor"
FILES = {"tasks.py": TASKS, "api.py": API, "publish.py": PUBLISH, "idle.py": IDLE, "tenants.py": TENANTS}


class Stage:
    """Programs on one broker and one queue."""

    def __init__(self, launch: Launch, broker: str, **env: str) -> None:
        self.launch = launch
        self.queue = f"monitored{next(_numbers)}"
        # Workers of other tests may be alive at the same broker, and would be counted.
        self.env = {"BROKER": broker, "QUEUE": self.queue, "EVENTS": f"{self.queue}.events", **env}
        self.folder = launch.write(FILES)

    def api(self, messages: int = 1, *, wait: bool = True, **extra: str) -> Process:
        name = f"api{next(_numbers)}"
        env = {**self.env, "OTEL_SERVICE_NAME": name, **extra}
        argv = ["python", "api.py", str(messages)]
        return self.launch(argv, name=name, cwd=self.folder, env=env, ready=says("published;"), wait=wait)

    def worker(self, *args: str) -> Process:
        name = f"celery@{self.queue}"
        # On a busy machine a heartbeat may come late; nobody shall be declared dead for that.
        args = ("--hostname", name, "--heartbeat-interval", "1", *args)
        return self.launch.worker(*args, cwd=self.folder, env=self.env, stop_signal=signal.SIGKILL)

    def publish(self, messages: int) -> None:
        env = {**self.env, "OTEL_CC_ENABLED": "false"}
        argv = ["python", "publish.py", str(messages)]
        process = self.launch(argv, name="publish", cwd=self.folder, env=env, instrument=False)
        assert process.wait() == 0, process.tail()

    def depth(self, messages: int, timeout: float = 30) -> Point:
        """Wait until the newest depth of the queue is this."""
        return self.newest("celery.queue.messages", messages, timeout)

    def newest(self, name: str, value: float, timeout: float = 30) -> Point:
        def look() -> Point | None:
            points = [point for point in self.points(name) if point.value == value]
            return points[-1] if points and points[-1] is self.points(name)[-1] else None

        try:
            found = wait_until(look, timeout, f"{name} = {value}")
        except TimeoutError as error:
            raise AssertionError([(point.value, point.attributes) for point in self.points(name)][-5:]) from error
        assert found is not None
        return found

    def points(self, name: str) -> list[Point]:
        """All points of a metric, or of the queue."""
        return [
            point
            for point in self.launch.sink.metrics().get(name, [])
            if point.attributes.get("messaging.destination.name", self.queue) == self.queue
        ]


def service(point: Point) -> str:
    """The program that sent a point."""
    return str(point.resource["service.name"])


@pytest.mark.parametrize(("broker", "pool"), [("valkey", "prefork"), ("rabbitmq", "prefork"), ("valkey", "gevent")])
def test_the_death_of_every_worker_is_seen_by_who_published(
    request: pytest.FixtureRequest, launch: Launch, broker: str, pool: str
) -> None:
    stage = Stage(launch, request.getfixturevalue(broker).url)
    worker = stage.worker("--pool", pool, "--concurrency", "2")
    stage.newest("celery.workers", 1)
    api = stage.api(messages=3)
    wait_until(lambda: worker.output().count("succeeded") == 3, 30, "the tasks have run")
    threads = re.findall(r"threads \[.*", worker.output())
    assert len(threads) == 3
    if pool == "prefork":
        assert not [line for line in threads if THREAD in line]
    stage.depth(0)
    worker.kill()
    killed = time.time()
    stage.publish(5)
    depth = stage.depth(5)
    workers = stage.newest("celery.workers", 0)
    assert depth.attributes == {
        "messaging.system": "redis" if broker == "valkey" else "rabbitmq",
        "messaging.destination.name": stage.queue,
    }
    assert depth.unit == "{message}"
    # The numbers are those of the program that is left, and it never said 0 before it could know.
    assert service(depth) == service(workers) == api.name
    counts = [point.value for point in stage.points("celery.workers") if service(point) == api.name]
    assert counts == sorted(counts, reverse=True)
    heartbeat = stage.points("celery.monitor.heartbeat.timestamp")[-1]
    assert killed < heartbeat.value < time.time()
    ages = [point for point in stage.points("celery.queue.oldest.age") if point.attributes == depth.attributes]
    # A message of a process without us does not say its age; an empty queue is as young as can be.
    assert {point.value for point in ages} <= ({0.0} if broker == "valkey" else set())


def test_an_api_that_has_nothing_to_do_sees_that_there_is_no_worker(launch: Launch, valkey: Valkey) -> None:
    stage = Stage(launch, valkey.database(14))
    stage.publish(2)
    server = launch.uvicorn(app="idle:app", cwd=stage.folder, env=stage.env)
    stage.depth(2)
    stage.newest("celery.workers", 0)
    assert "cannot be read" not in server.process.output()


def test_who_only_knows_the_application_does_not_look(launch: Launch, valkey: Valkey) -> None:
    stage = Stage(launch, valkey.database(14))
    program = "import threading, idle, time\ntime.sleep(1)\nprint([t.name for t in threading.enumerate()])\n"
    (Path(stage.folder) / "helper.py").write_text(program)
    helper = launch(["python", "helper.py"], cwd=stage.folder, env=stage.env)
    assert helper.wait() == 0
    assert "MainThread" in helper.output()
    assert THREAD not in helper.output()


def test_applications_come_and_go_and_more_than_a_process_can_look_at_are_left_out(
    launch: Launch, valkey: Valkey
) -> None:
    stage = Stage(launch, valkey.database(14))
    process = launch(["python", "tenants.py"], cwd=stage.folder, env=stage.env)
    wait_until(lambda: process.output().count("looks at") == 2, 30, "the monitors of the first have ended")
    assert re.findall(r"looks at (\d+)", process.output()) == ["16", "0"]
    (line,) = [line for line in process.output().splitlines() if "more than 16 Celery brokers" in line]
    assert "OTEL_CC_CELERY_MONITOR_ENABLED=false" in line
    name = f"{stage.queue}.last"
    launch.sink.wait_metric(
        "celery.queue.messages",
        where=lambda point: point.attributes["messaging.destination.name"] == name and point.value == 1,
    )


def test_workers_that_send_their_heartbeats_elsewhere_are_counted_there(launch: Launch, valkey: Valkey) -> None:
    stage = Stage(launch, valkey.database(15))
    stage.worker("--pool", "solo")
    mail, shop = stage.api(), stage.api(EVENTS="shop.events")
    # One process reads the queues, both listen.
    wait_until(lambda: len({service(point) for point in stage.points("celery.workers")}) >= 2, 30, "both have counted")
    counts = {service(point): point.value for point in stage.points("celery.workers")}
    assert counts.pop(shop.name) == 0
    assert set(counts.values()) == {1}
    assert mail.name not in counts


def test_the_oldest_message_that_says_its_age_grows_old(launch: Launch, valkey: Valkey) -> None:
    options = {"priority_steps": [0, 5], "global_keyprefix": "prefixed:"}
    stage = Stage(launch, valkey.database(7), OPTIONS=json.dumps(options))
    before = time.time()
    stage.api(messages=4)
    depth = stage.depth(4)
    wait_until(lambda: (stage.points("celery.queue.oldest.age") or [depth])[-1].value > 2, 30, "it is 2 s old")
    age = stage.points("celery.queue.oldest.age")[-1].value
    assert age <= time.time() - before
    # It may have been looked at while they were being published.
    assert {point.value for point in stage.points("celery.queue.messages")} <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_one_process_looks_and_another_takes_over(launch: Launch, valkey: Valkey) -> None:
    broker = valkey.database(8)
    stage = Stage(launch, broker)
    started = [stage.api(wait=False) for _ in range(3)]
    for process in started:
        process.wait_ready()
    processes = {process.name: process for process in started}

    def listening() -> list[str]:
        with redis.Redis.from_url(broker) as client:
            clients = client.client_list()
        # Who publishes has a connection too, but no subscription.
        return [found["addr"] for found in clients if found["db"] == "8" and found["psub"] != "0"]

    def looks() -> str | None:
        """The process that has told the newest numbers."""
        name = service(stage.newest("celery.workers", 0))
        # What a killed one sent may still arrive.
        return name if name in processes else None

    for left in (3, 2, 1):
        name = wait_until(looks, 30, "one that looks")
        assert name is not None
        stage.depth(3)
        wait_until(lambda: len(listening()) == 1, 30, "one that listens")
        assert len(processes) == left
        processes.pop(name).kill()
        launch.sink.clear()
    wait_until(lambda: not listening(), 30, "nobody who listens")


def test_a_broker_that_is_gone_makes_a_gap_and_comes_back(launch: Launch) -> None:
    with Processes() as servers:
        server = local_valkey.start(servers)
        stage = Stage(launch, server.url)
        api = stage.api(messages=2)
        stage.depth(2)
        server.process.kill()
        wait_until(lambda: "cannot be read" in api.output(), 30, "it has noticed")
        launch.sink.clear()

        def collections() -> list[Export]:
            # The first may have begun before.
            return [export for export in launch.sink.exports if export.path == "/v1/metrics"][1:]

        # Whole collections come and do not have it; not even the age of what was seen last.
        after = wait_until(lambda: found if len(found := collections()) >= 2 else None, 30, "two collections")
        names = {
            "celery.queue.messages",
            "celery.queue.oldest.age",
            "celery.workers",
            "celery.monitor.heartbeat.timestamp",
        }
        assert after is not None
        assert not names & {point.name for export in after for point in decode_metrics(export.body)}
        servers.start("again", server.process.argv, env={"LC_ALL": "C"}, ready=listens(server.port))
        stage.publish(3)
        stage.depth(3)
        stage.newest("celery.workers", 0)
        assert api.output().count("cannot be read") == 1


def test_it_can_be_switched_off(launch: Launch, valkey: Valkey) -> None:
    variables: list[dict[str, str]] = [
        {},
        {"OTEL_CC_CELERY_MONITOR_ENABLED": "false"},
        {"OTEL_METRICS_EXPORTER": "none"},
    ]
    programs = [Stage(launch, valkey.database(9), **env).api(wait=False) for env in variables]
    for program in programs:
        program.wait_ready()
    outputs = [program.output() for program in programs]
    assert [THREAD in output for output in outputs] == [True, False, False]


def test_who_may_not_listen_looks_nevertheless(launch: Launch, valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        # All commands on all keys, but no channel.
        client.acl_setuser("looks", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
    stage = Stage(launch, valkey.database(13).replace("//", "//looks:secret@"))
    api = stage.api(messages=2)
    stage.depth(2)
    wait_until(lambda: "the Celery workers are not counted" in api.output(), 30, "it has tried")
    launch.sink.clear()
    stage.publish(1)
    stage.depth(3)
    assert not launch.sink.metrics().get("celery.workers")
    assert api.output().count("secret") == 0


def silent(port: int) -> socket.socket:
    """A broker that takes connections and never says anything."""
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers_holds_nobody(launch: Launch, scheme: str) -> None:
    port = free_port()
    with silent(port) as server:
        server.settimeout(60)
        stage = Stage(launch, f"{scheme}://127.0.0.1:{port}/")
        program = "from tasks import app\nfrom otel_cc.celery import monitor\nmonitor.start(app)\n"
        (Path(stage.folder) / "waits.py").write_text(program + "import signal\nsignal.pause()\n")
        process = launch(["python", "waits.py"], cwd=stage.folder, env=stage.env)
        connection, _ = server.accept()
        # It has said something, and waits for the answer now.
        with connection:
            connection.settimeout(60)
            assert connection.recv(1)
            began = time.monotonic()
            assert process.stop(signal.SIGTERM) == -signal.SIGTERM
            # It waits ten seconds for an answer.
            assert time.monotonic() - began < 8
