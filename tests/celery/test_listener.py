"""The number of workers is that of those whose heartbeat was heard lately; where it cannot be known, there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from celery import Celery

from otel_cc.celery import listener
from otel_cc.celery.listener import SILENT, Listener
from otel_cc.local.process import wait_until
from otel_cc.local.valkey import Valkey

Stage = Callable[..., tuple[Listener, Callable[..., None], Celery]]


@dataclass
class Clock:
    """The clock of the listeners: it moves when a test says so, however long the machine takes."""

    now: float = 1000.0

    def passes(self, seconds: float, listening: Listener) -> None:
        """Let time pass for a listener that is awake."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + SILENT / 4)
            listening.listen(0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(listener, "monotonic", lambda: clock.now)
    return clock


def hears(listening: Listener, workers: int) -> None:
    """Wait until it has heard everything that was sent, and counts so many."""
    wait_until(lambda: listening.listen(0.1) == workers, 30, f"{workers} workers")
    assert listening.listen(0.3) == workers


@pytest.fixture
def stage(valkey: Valkey, clock: Clock) -> Iterator[Stage]:
    """``stage(**settings)``: a listener, a function that sends an event, and the application."""
    with ExitStack() as stack:

        def make(**settings: Any) -> tuple[Listener, Callable[..., None], Celery]:
            app = Celery("listens", broker=valkey.database(6), set_as_current=False)
            app.conf.update(settings)
            stack.callback(app.close)
            connection = stack.enter_context(app.connection_for_read())
            sending = stack.enter_context(app.connection_for_write())
            listening = Listener(app.events.Receiver, connection, "redis")

            def send(kind: str, name: Any) -> None:
                with app.events.Dispatcher(sending, hostname=name, enabled=True, buffer_while_offline=False) as events:
                    events.send(kind)

            listening.listen(0.01)
            return listening, send, app

        yield make


def test_workers_are_counted_until_they_fall_silent_or_say_goodbye(stage: Stage, clock: Clock) -> None:
    listening, send, _ = stage()
    for name in ("one", "two", "two", "three"):
        send("worker-heartbeat", name)
    send("worker-online", "four")
    # Before it has listened long enough to have heard everybody.
    clock.passes(SILENT * 0.9, listening)
    assert listening.listen(0.1) is None
    clock.passes(SILENT * 0.2, listening)
    hears(listening, 4)
    clock.passes(SILENT * 0.9, listening)
    for name in ("one", "two", "three", "four"):
        send("worker-heartbeat", name)
    send("worker-offline", "three")
    send("task-started", "five")
    hears(listening, 3)
    clock.passes(SILENT * 0.9, listening)
    hears(listening, 3)
    clock.passes(SILENT * 0.2, listening)
    hears(listening, 0)


def test_a_process_that_was_asleep_does_not_declare_everybody_dead(stage: Stage, clock: Clock) -> None:
    listening, send, _ = stage()
    clock.passes(SILENT * 1.1, listening)
    send("worker-heartbeat", "one")
    hears(listening, 1)
    clock.now += 100
    assert listening.listen(0.1) is None


def test_what_is_no_event_of_a_worker_does_no_harm(stage: Stage, clock: Clock, valkey: Valkey) -> None:
    listening, send, _ = stage()
    clock.passes(SILENT * 1.1, listening)
    for name in (7, ["x"], "x" * 300):
        send("worker-heartbeat", name)
    properties = {"delivery_info": {"exchange": "celeryev"}, "delivery_tag": "1"}
    envelope = {
        "headers": {},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": properties,
    }
    with redis.Redis.from_url(valkey.database(6)) as client:
        for body in ("1", "null", "[[1], 2, {}]", "{", ""):
            raw = json.dumps({**envelope, "body": body})
            # The server may not have noticed yet that a listener of another test has ended.
            assert client.publish("/6.celeryev/worker.heartbeat", raw) >= 1
    send("worker-heartbeat", "one")
    hears(listening, 1)


def test_pickles_are_not_opened_and_then_nobody_is_counted(stage: Stage, clock: Clock) -> None:
    listening, send, _ = stage(event_serializer="pickle")
    for _ in range(4):
        clock.passes(SILENT * 0.4, listening)
        send("worker-heartbeat", "one")
        assert listening.listen(0.25) is None


def test_a_killed_listener_leaves_one_name_at_the_broker_however_often(stage: Stage, valkey: Valkey) -> None:
    for _ in range(3):
        stage()
    with redis.Redis.from_url(valkey.database(6)) as client:
        assert client.smembers("_kombu.binding.celeryev") == {b"worker.#\x06\x16\x06\x16celeryev.otel_cc"}
