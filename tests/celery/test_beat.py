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
TICKS = 4
# What beat says, at the level DEBUG, when a publish has returned.
PUBLISHED = rf"(?s)(Scheduler: Sending due task.*one sent\. id->.*){{{TICKS}}}"


def ticks(stage: Stage) -> list[str]:
    traces: dict[str, list[Span]] = {}
    for span in stage.sink.spans():
        traces.setdefault(span.trace_id, []).append(span)
    return [tree(spans) for spans in traces.values()]


def test_each_tick_is_a_trace_and_none_is_lost_at_the_end(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker("--pool", "solo")
    beat = stage.launch(
        ["celery", "-A", "tasks", "beat", "--schedule", str(tmp_path / "schedule"), "--loglevel", "DEBUG"],
        name="beat",
        cwd=PROGRAM,
        env={**stage.variables, "BEAT": str(TICKS)},
        ready=says(PUBLISHED),
    )
    assert beat.stop(signal.SIGTERM) == 0
    assert beat.output().count("Sending due task") == TICKS
    wait_until(lambda: worker.output().count("succeeded in") == TICKS, 30, "the tasks have run")
    worker.stop(signal.SIGTERM)
    published = [span for span in stage.sink.spans() if span.name == "publish one"]
    assert len(published) == TICKS
    assert ticks(stage) == [TICK] * TICKS
    assert len({span.attributes["request.id"] for span in stage.sink.spans() if span.name == "run one"}) == TICKS
    assert "in celery beat process" in beat.output()


def test_beat_inside_a_worker_delivers_its_spans_too(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker(
        *("--pool", "prefork", "--concurrency", "1", "--beat", "--schedule", str(tmp_path / "schedule")),
        *("--loglevel", "DEBUG"),
        BEAT=str(TICKS),
    )
    wait_until(lambda: re.search(PUBLISHED, worker.output()), 30, "beat has sent its tasks")
    worker.stop(signal.SIGTERM)
    assert worker.output().count("Scheduler: Sending due task") == TICKS
    assert len([span for span in stage.sink.spans() if span.name == "publish one"]) == TICKS


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

    wait_until(happened, 60, "they have run for a while")
    names = {STARTED, DUE, TURNED}
    latest = {name: launch.sink.latest(name) for name in (*names, SUCCEEDED)}
    every_start = launch.sink.metrics()[STARTED]
    now, log = time.time(), ticker.output()
    first = min(sent(log, "often"))
    dues, starts, successes = (entries(latest[name]) for name in (DUE, STARTED, SUCCEEDED))
    # Each value comes from one process.
    assert [len(latest[name]) for name in (TURNED, DUE, STARTED, SUCCEEDED)] == [1, 4, 3, 2]
    assert set(dues) == {"often", "fails", "stubborn", "rarely"}
    assert began + 3599 < dues.pop("rarely") <= now + 3600
    # They are due again and again, each within a second; on a busy machine they may be late.
    collected = {point.attributes["celery.beat.entry"]: point.time / 1e9 for point in latest[DUE]}
    assert all(first < due < collected[entry] + 1 for entry, due in dues.items())
    # One that never ran has no start, and one that never succeeded no success; the same task elsewhere does not count.
    assert set(starts) == {"often", "fails", "stubborn"}
    for entry in starts:
        found = [point.value for point in every_start if point.attributes["celery.beat.entry"] == entry]
        lines = sent(log, entry)
        assert min(found) >= min(lines)
        # A moment later; not each time on a busy machine.
        assert min(started - at for started in found for at in lines if at <= started) < 0.2
    assert set(successes) == {"often", "stubborn"}
    assert all(first < at <= now for at in successes.values())

    def turns() -> bool:
        (turned,) = launch.sink.latest(TURNED)
        return turned.time / 1e9 - 3 < turned.value <= time.time()

    wait_until(turns, 30, "a collection of one that turns")
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

    wait_until(tick, 30)


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
    began = time.time()
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
    dues = values(watch.next_dues())
    assert set(dues) == {"mail"}
    assert began + later <= dues["mail"] <= time.time() + later
    assert values(watch.last_starts()) == {}


def test_a_scheduler_that_hangs_grows_old_and_one_that_sleeps_does_not(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(app)
    del scheduler.schedule["mail"]
    watch = beat.Watch(scheduler)
    before = time.time()
    sleep = scheduler.tick()
    assert sleep == pytest.approx(300, abs=1)
    now = time.time()
    ages = []
    for later in (0, 250, 400, 4000):
        monkeypatch.setattr(beat, "time", lambda later=later: now + later)
        ((seen, attributes),) = watch.turned()
        assert attributes == {}
        ages.append(now + later - seen)
    slack = 2 + now - before
    assert ages == [0, 0, pytest.approx(100, abs=slack), pytest.approx(3700, abs=slack)]


def test_a_persistent_schedule_remembers_the_last_start(app: Celery) -> None:
    scheduler = Scheduler(app)
    entry = scheduler.schedule["log"]
    before = time.time()
    entry.last_run_at, entry.total_run_count = app.now(), 3
    watch = beat.Watch(scheduler)
    turn(scheduler)
    (started,) = values(watch.last_starts()).items()
    assert started[0] == "log"
    assert before <= started[1] <= time.time()


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
    before = time.time()
    scheduler.tick()
    (started,) = values(watch.last_starts()).items()
    assert started[0] == "mine"
    assert before <= started[1] <= time.time()
    assert values(watch.next_dues()) == {}
    headers: dict[str, Any] = {}
    beat.write(headers)
    assert headers == {}
