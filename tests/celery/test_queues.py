"""The depth of a queue is what the broker holds, exactly, and never an old or a guessed number."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue

from otel_cc.celery import queues
from otel_cc.celery.queue_time import HEADER
from otel_cc.celery.queues import Depth
from otel_cc.local import valkey as local_valkey
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.rabbitmq import RabbitMQ
from otel_cc.local.valkey import Valkey
from otel_cc.metrics.catalogue import BOUNDS

_numbers = count()
Connect = Callable[..., tuple[Celery, Any]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(url, **settings)``: an application and a connection."""
    with ExitStack() as stack:

        def make(url: str, **settings: Any) -> tuple[Celery, Any]:
            app = Celery(f"queues{next(_numbers)}", broker=url, set_as_current=False)
            app.conf.update(settings)
            stack.callback(app.close)
            return app, stack.enter_context(app.connection_for_read())

        yield make


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.database(5)) as connected:
        connected.flushdb()
        yield connected


@pytest.fixture
def alone() -> Iterator[Valkey]:
    """A server that nobody else asks, for what it counts of itself."""
    with Processes() as processes:
        yield local_valkey.start(processes)


def send(app: Celery, queue: str, age: float | None = None, **options: Any) -> None:
    headers = {} if age is None else {HEADER: str(time.time() - age)}
    app.send_task("some.task", queue=queue, headers=headers, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_keyprefix": "shop:"},
        {"priority_steps": list(range(10)), "sep": ":", "queue_order_strategy": "priority"},
        {"priority_steps": [0, 5], "global_keyprefix": "shop:", "sep": "|"},
    ],
    ids=str,
)
def test_every_priority_counts_under_every_prefix(
    connect: Connect, valkey: Valkey, client: redis.Redis, options: dict[str, Any]
) -> None:
    app, connection = connect(valkey.database(5), broker_transport_options=options)
    for priority in range(10):
        for age in (1000 + 100 * priority, 10):
            send(app, "busy", age, priority=priority)
    lists = [key for key in client.keys("*busy*") if client.type(key) == b"list"]
    assert sum(client.llen(key) for key in lists) == 20
    assert len(lists) > 1
    found = queues.reader(connection, "redis")(["busy", "missing"])
    assert found["missing"] == Depth(0, 0.0)
    assert found["busy"].messages == 20
    # The one at the end that is consumed, of the list where it is oldest.
    assert found["busy"].oldest == pytest.approx(1000 + 100 * max(options.get("priority_steps", [9])), abs=60)


def test_what_a_stranger_put_into_the_queue_is_counted_and_has_no_age(
    connect: Connect, valkey: Valkey, client: redis.Redis
) -> None:
    _, connection = connect(valkey.database(5))
    read = queues.reader(connection, "redis")
    headers: list[Any] = [None, 1, [], {}, {HEADER: 1.0}, {HEADER: "nan"}, {HEADER: "9" * 40}, {HEADER: "-1e400"}]
    odd = [json.dumps({"headers": value}).encode() for value in headers]
    odd += [b"", b"\xff", b"{", b"null", b"[1]", b"[" * 200_000, b'{"headers":' * 50_000, b"1" * 10_000]
    odd += [b'{"headers": {"%s": "1"}, "body": "%s"}' % (HEADER.encode(), b"x" * size) for size in (100_000, 5_000_000)]
    for raw in odd:
        client.rpush("odd", raw)
        assert read(["odd"])["odd"] == Depth(client.llen("odd"), None), raw[:80]


def sent_bytes(client: redis.Redis) -> int:
    return int(client.info("stats")["total_net_output_bytes"])


def test_a_large_message_stays_at_the_broker_and_is_not_asked_for_again_soon(
    connect: Connect, alone: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, connection = connect(alone.url)
    read = queues.reader(connection, "redis")
    with redis.Redis.from_url(alone.url) as client:
        send(app, "large", 5000, args=["x" * 500_000])
        before = sent_bytes(client)
        assert read(["large"])["large"].oldest == pytest.approx(5000, abs=60)
        client.delete("large")
        send(app, "large", 4000, args=["x" * 20_000_000])
        send(app, "large", 3000)
        for _ in range(3):
            assert read(["large"]) == {"large": Depth(2, None)}
        assert sent_bytes(client) - before < 50_000
        script = client.info("commandstats")["cmdstat_eval"]["calls"]
        client.rpop("large")
        assert read(["large"]) == {"large": Depth(1, None)}
        # Those of the other priorities.
        assert client.info("commandstats")["cmdstat_eval"]["calls"] - script == 3
    monkeypatch.setattr(queues, "monotonic", lambda: time.monotonic() + 601)
    assert read(["large"])["large"].oldest == pytest.approx(3000, abs=60)


def test_a_broker_that_runs_no_scripts_for_us_still_counts(
    connect: Connect, valkey: Valkey, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.acl_setuser(
        "counts", enabled=True, passwords=["+secret"], categories=["+@all", "-@scripting"], keys=["*"], channels=["*"]
    )
    app, connection = connect(valkey.database(5).replace("//", "//counts:secret@"))
    send(app, "many", 5)
    read = queues.reader(connection, "redis")
    for _ in range(3):
        assert read(["many", "none"]) == {"many": Depth(1, None), "none": Depth(0, 0.0)}
    (line,) = [record.getMessage() for record in caplog.records if "EVAL" in record.getMessage()]
    assert "is not known" in line
    assert "secret" not in line


def test_a_queue_that_cannot_be_read_is_left_out_and_the_others_are_not(
    connect: Connect, valkey: Valkey, client: redis.Redis
) -> None:
    app, connection = connect(valkey.database(5))
    client.set("broken", "this is no list")
    send(app, "whole", 5)
    found = queues.reader(connection, "redis")(["broken", "whole"])
    assert set(found) == {"whole"}
    assert found["whole"].messages == 1


def test_rabbitmq_counts_what_is_ready_and_a_missing_queue_as_empty(connect: Connect, rabbitmq: RabbitMQ) -> None:
    name = f"depth{next(_numbers)}"
    app, connection = connect(rabbitmq.url, task_queue_max_priority=10)
    read = queues.reader(connection, "rabbitmq")
    for priority in range(6):
        send(app, name, priority=priority)
    channel = connection.channel()
    # Nobody confirms what is published.
    wait_until(lambda: read([name]) == {name: Depth(6)}, 30)
    assert read(["missing", name, "missing too", name]) == {
        "missing": Depth(0),
        name: Depth(6),
        "missing too": Depth(0),
    }
    channel.basic_get(name)
    assert read([name]) == {name: Depth(5)}
    channel.queue_delete(name)
    assert read([name]) == {name: Depth(0)}


def test_a_queue_that_rabbitmq_refuses_is_left_out_and_the_others_are_not(connect: Connect, rabbitmq: RabbitMQ) -> None:
    name = f"depth{next(_numbers)}"
    app, connection = connect(rabbitmq.url)
    _, owner = connect(rabbitmq.url)
    owner.channel().queue_declare(queue=f"{name}.mine", exclusive=True)
    send(app, name)
    read = queues.reader(connection, "rabbitmq")
    wait_until(lambda: read([f"{name}.mine", name]) == {name: Depth(1)}, 30)


def test_a_broadcast_is_no_queue_and_there_is_a_limit() -> None:
    known = [Queue("mail"), Broadcast("everybody"), Queue("mail"), Queue("log", Exchange("log", type="topic"))]
    assert queues.names(known) == ["mail", "log"]
    many = [Queue(f"queue{number}") for number in range(10_000)]
    assert queues.names(many) == [f"queue{number}" for number in range(BOUNDS["messaging.destination.name"] - 1)]
