"""Beat: every tick is a trace of its own, the last one arrives too, and what did not happen can be noticed."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from celery import VERSION, Celery
from celery.beat import Scheduler
from celery.schedules import crontab, schedstate, schedule

from otel_cc.celery import beat
from otel_cc.celery.message import field
from otel_cc.local.process import Process, says, wait_until
from otel_cc.local.signals import Point, Span
from otel_cc.local.valkey import Valkey
from tests.celery.conftest import PROGRAM, Stage, tree
from tests.celery.test_endings import SLOW
from tests.conftest import Launch

# Celery before 5.4 on Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

TICK = "publish one\n  run one"


def ticks(stage: Stage) -> list[str]:
    traces: dict[str, list[Span]] = {}
    for span in stage.sink.spans():
        traces.setdefault(span.trace_id, []).append(span)
    return [tree(spans) for spans in traces.values()]


def test_each_tick_is_a_trace_and_none_is_lost_at_the_end(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker("--pool", "solo")
    beat = stage.launch(
        ["celery", "-A", "tasks", "beat", "--schedule", str(tmp_path / "schedule"), "--loglevel", "INFO"],
        name="beat",
        cwd=PROGRAM,
        env={**stage.variables, "BEAT": "1"},
        ready=says(r"(?s)(Sending due task.*){3}"),
    )
    assert beat.stop(signal.SIGTERM) == 0
    sent = beat.output().count("Sending due task")
    # It is gone from the queue: the worker takes what is left of it before it ends.
    stage.sink.wait_spans(sent, 5, lambda span: span.name == "publish one")
    worker.stop(signal.SIGTERM)
    published = [span for span in stage.sink.spans() if span.name == "publish one"]
    assert len(published) == sent
    assert ticks(stage) == [TICK] * sent
    assert len({span.attributes["request.id"] for span in stage.sink.spans() if span.name == "run one"}) == sent
    assert "in celery beat process" in beat.output()


def test_beat_inside_a_worker_delivers_its_spans_too(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker(
        *("--pool", "prefork", "--concurrency", "1", "--beat", "--schedule", str(tmp_path / "schedule")),
        BEAT="1",
    )
    wait_until(lambda: worker.output().count("Task one[") >= 4, 10, "beat has sent tasks")
    worker.stop(signal.SIGTERM)
    sent = worker.output().count("Scheduler: Sending due task")
    assert len([span for span in stage.sink.spans() if span.name == "publish one"]) == sent


# What is due, what was sent, and what succeeded.

SCHEDULE = """
import os
from celery import Celery
from celery.beat import PersistentScheduler

app = Celery("shop", broker=os.environ["BROKER"])
app.conf.update(
    task_default_queue="scheduled",
    result_expires=None,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "often": {"task": "good", "schedule": 0.5},
        "fails": {"task": "bad", "schedule": 0.5},
        "stubborn": {"task": "retried", "schedule": 0.7},
        "rarely": {"task": "good", "schedule": 3600.0},
    },
)

@app.task(name="good")
def good():
    pass

@app.task(name="bad")
def bad():
    raise ValueError("no")

@app.task(name="retried", bind=True)
def retried(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0)

class Own(PersistentScheduler):
    \"\"\"Like one that reads a database: nobody else may ask its entries anything.\"\"\"
    ticking = False

    def tick(self, *args, **kwargs):
        self.ticking = True
        try:
            return super().tick(*args, **kwargs)
        finally:
            self.ticking = False

    @property
    def schedule(self):
        assert self.ticking or not hasattr(self, "_store") or self._heap is None
        return super().schedule
"""
STARTED, DUE = "celery.beat.entry.last_start.timestamp", "celery.beat.entry.next_due.timestamp"
SUCCEEDED, TURNED = "celery.beat.entry.last_success.timestamp", "celery.beat.heartbeat.timestamp"


def entries(points: list[Point]) -> dict[str, float]:
    return {point.attributes["celery.beat.entry"]: point.value for point in points}


def sent(log: str, entry: str) -> list[float]:
    """When beat says that it sent the entry."""
    lines = re.findall(rf"\[(\S+ \S+): .*Scheduler: Sending due task {entry} ", log)
    return [datetime.strptime(line, "%Y-%m-%d %H:%M:%S,%f").timestamp() for line in lines]


@pytest.mark.parametrize("kind", ["beat", "embedded", "own scheduler"])
def test_each_entry_says_when_it_ran_when_it_is_due_and_when_it_succeeded(
    launch: Launch, valkey: Valkey, kind: str
) -> None:
    with redis.Redis.from_url(valkey.database(10)) as client:
        client.flushdb()
    env = {"BROKER": valkey.database(10), "OTEL_SERVICE_NAME": "worker"}
    files = {"tasks.py": SCHEDULE}
    began = time.time()
    extra = ["--beat", "--schedule", "schedule"] if kind == "embedded" else []
    worker = launch.worker("--pool", "prefork", "--concurrency", "1", *extra, env=env, files=files)
    ticker: Process = worker
    if kind != "embedded":
        own = ["--scheduler", "tasks:Own"] if kind == "own scheduler" else []
        argv = ["celery", "-A", "tasks", "beat", "--loglevel", "INFO", "--schedule", "schedule", *own]
        ticker = launch(argv, name="beat", env={**env, "OTEL_SERVICE_NAME": "beat"}, files=files)

    def happened() -> bool:
        found = [entries(launch.sink.latest(name)) for name in (STARTED, SUCCEEDED)]
        first = min(sent(ticker.output(), "often"), default=time.time())
        return all(entry.get(name, 0) > first + 1 for entry in found for name in ("often", "stubborn"))

    wait_until(happened, 20, "they have run for a while")
    names = {STARTED, DUE, TURNED}
    latest = {name: launch.sink.latest(name) for name in (*names, SUCCEEDED)}
    now, log = time.time(), ticker.output()
    dues, starts, successes = (entries(latest[name]) for name in (DUE, STARTED, SUCCEEDED))
    # Each value comes from one process.
    assert [len(latest[name]) for name in (TURNED, DUE, STARTED, SUCCEEDED)] == [1, 4, 3, 2]
    assert set(dues) == {"often", "fails", "stubborn", "rarely"}
    assert dues.pop("rarely") == pytest.approx(began + 3600, abs=20)
    assert all(-3 < due - now < 1 for due in dues.values())
    # One that never ran has no start, and one that never succeeded no success; the same task elsewhere does not count.
    assert set(starts) == {"often", "fails", "stubborn"}
    for entry, started in starts.items():
        assert min(abs(started - at) for at in sent(log, entry)) < 0.2
    assert set(successes) == {"often", "stubborn"}
    assert all(now - 4 < at <= now for at in successes.values())
    assert now - 3 < latest[TURNED][0].value <= now
    of_beat = {point.resource["service.instance.id"] for name in names for point in latest[name]}
    of_worker = {point.resource["service.instance.id"] for point in latest[SUCCEEDED]}
    assert len(of_beat) == len(of_worker) == 1
    assert of_beat != of_worker


@pytest.fixture
def app(valkey: Valkey) -> Celery:
    made = Celery("beats", broker=valkey.database(11), set_as_current=False)
    with redis.Redis.from_url(valkey.database(11)) as client:
        client.flushdb()
    made.conf.result_expires = None
    made.conf.beat_schedule = {"mail": {"task": "mail", "schedule": 0.2}, "log": {"task": "log", "schedule": 900.0}}
    return made


def values(found: list[tuple[float, dict[str, str]]]) -> dict[str, float]:
    return {attributes["celery.beat.entry"]: value for value, attributes in found}


def turn(scheduler: Any, until: Callable[[], Any] = lambda: True) -> None:
    """Let the scheduler tick at least once, as beat does."""

    def tick() -> bool:
        time.sleep(min(0.2, max(0.0, scheduler.tick())))
        return bool(until())

    wait_until(tick, 5)


def test_a_run_that_could_not_be_published_stays_due(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(app)
    watch = beat.Watch(scheduler)
    assert values(watch.next_dues()) == values(watch.last_starts()) == {}
    turn(scheduler)
    due = values(watch.next_dues())
    assert due["mail"] - time.time() < 0.2
    assert due["log"] - time.time() > 800
    turn(scheduler, watch.last_starts)
    started = values(watch.last_starts())
    assert set(started) == {"mail"}
    assert values(watch.next_dues())["mail"] > started["mail"]
    with monkeypatch.context() as broken:
        tried = []

        def fails(*_: Any, **__: Any) -> None:
            tried.append(1)
            raise OSError("no broker")

        missed = values(watch.next_dues())["mail"]
        broken.setattr(app, "send_task", fails)
        turn(scheduler, lambda: len(tried) == 3)
        assert values(watch.next_dues())["mail"] == missed < time.time()
        assert values(watch.last_starts()) == started
    turn(scheduler, lambda: values(watch.last_starts()) != started)
    assert values(watch.next_dues())["mail"] > missed + 0.2
    # What is removed from the schedule is no longer due.
    del scheduler.schedule["mail"]
    scheduler.tick()
    assert set(values(watch.next_dues())) == {"log"}
    assert values(watch.last_starts()) == {}


@pytest.mark.parametrize("enable_utc", [True, False])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_a_crontab_is_due_by_the_clock_of_the_applications_time_zone(app: Celery, zone: str, enable_utc: bool) -> None:
    app.conf.timezone, app.conf.enable_utc = zone, enable_utc
    # Tomorrow at this time, less a few minutes: far enough from now, and across midnight somewhere.
    due = (datetime.now(ZoneInfo(zone)) - timedelta(minutes=7)).replace(second=0, microsecond=0) + timedelta(days=1)
    at = crontab(hour=due.hour, minute=due.minute, app=app)
    app.conf.beat_schedule = {
        "daily": {"task": "mail", "schedule": at},
        "missed": {"task": "mail", "schedule": at},
    }
    scheduler = Scheduler(app)
    missed = scheduler.schedule["missed"]
    # Beat was not there when it should have run.
    missed.last_run_at, missed.total_run_count = app.now() - timedelta(days=2), 1
    watch = beat.Watch(scheduler)
    before = time.time()
    turn(scheduler, lambda: values(watch.last_starts()).get("missed", 0) >= before)
    tomorrow = pytest.approx(due.timestamp(), abs=2)
    assert values(watch.next_dues()) == {"daily": tomorrow, "missed": tomorrow}
    assert set(values(watch.last_starts())) == {"missed"}


def test_an_entry_that_puts_itself_off_is_due_later(app: Celery) -> None:
    answers = [schedstate(False, 0.05)]

    class Hesitates(schedule):
        def is_due(self, last_run_at: datetime) -> Any:
            return answers.pop() if answers else schedstate(False, 100.0)

    app.conf.beat_schedule = {"mail": {"task": "mail", "schedule": Hesitates(1.0, app=app)}}
    scheduler = Scheduler(app)
    watch = beat.Watch(scheduler)
    turn(scheduler)
    assert values(watch.next_dues())["mail"] < time.time() + 1
    time.sleep(0.1)
    turn(scheduler)
    # An older Celery leaves it at the head of its queue (celery #7649).
    later = 100 if VERSION >= (5, 7) else 0
    assert values(watch.next_dues()) == {"mail": pytest.approx(time.time() + later, abs=2)}
    assert values(watch.last_starts()) == {}


def test_a_scheduler_that_hangs_grows_old_and_one_that_sleeps_does_not(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(app)
    del scheduler.schedule["mail"]
    watch = beat.Watch(scheduler)
    sleep = scheduler.tick()
    assert sleep == pytest.approx(300, abs=1)
    now = time.time()
    ages = []
    for later in (0, 250, 400, 4000):
        monkeypatch.setattr(beat, "time", lambda later=later: now + later)
        ((seen, attributes),) = watch.turned()
        assert attributes == {}
        ages.append(now + later - seen)
    assert ages == [0, 0, pytest.approx(100, abs=2), pytest.approx(3700, abs=2)]


def test_a_persistent_schedule_remembers_the_last_start(app: Celery) -> None:
    scheduler = Scheduler(app)
    entry = scheduler.schedule["log"]
    entry.last_run_at, entry.total_run_count = app.now(), 3
    watch = beat.Watch(scheduler)
    turn(scheduler)
    assert values(watch.last_starts()) == {"log": pytest.approx(time.time(), abs=2)}


def test_a_scheduler_without_celerys_queue_says_what_it_sent(app: Celery) -> None:
    class Foreign:
        """Ticks in its own way, as RedBeat does."""

        def tick(self) -> float:
            entry = Scheduler.Entry(name="mine", task="mail", schedule=schedule(1.0, app=app), app=app)
            self.apply_async(entry)
            return 1.0

        def apply_async(self, entry: Any) -> Any:
            headers: dict[str, Any] = {}
            beat.write(headers)
            assert field(headers, beat.HEADER) == "mine"

    scheduler = Foreign()
    watch = beat.Watch(scheduler)
    scheduler.tick()
    assert values(watch.last_starts()) == {"mine": pytest.approx(time.time(), abs=1)}
    assert values(watch.next_dues()) == {}
    headers: dict[str, Any] = {}
    beat.write(headers)
    assert headers == {}
