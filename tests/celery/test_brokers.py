"""Which broker is which: each is read by its own connection, and no password is in what tells them apart or in a log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from otel_cc import guard, settings
from otel_cc.celery import broker
from otel_cc.celery.monitor import Monitor
from otel_cc.local.rabbitmq import RabbitMQ

SECRET = "a-secret"
SENTINEL = f"sentinel://:{SECRET}@127.0.0.1:1;sentinel://:{SECRET}@127.0.0.1:2"
ONCE = {"password": SECRET, "retry": Retry(NoBackoff(), 0)}
# The address, and the transport options. A port that nobody listens at.
DIFFERENT: list[tuple[str, dict[str, Any]]] = [
    (f"redis://:{SECRET}@127.0.0.1:1/0", {}),
    (f"redis://:{SECRET}@127.0.0.1:1/1", {}),
    (f"redis://:{SECRET}@127.0.0.1:1/1", {"global_keyprefix": "shop:"}),
    (f"redis://:{SECRET}@127.0.0.1:1/0;redis://:{SECRET}@127.0.0.1:2/0", {}),
    (f"rediss://:{SECRET}@127.0.0.1:1/0?ssl_cert_reqs=required", {}),
    (f"redis+socket://:{SECRET}@/nowhere/valkey.sock", {}),
    (f"redis+socket:///nowhere/valkey.sock?virtual_host=3&password={SECRET}", {}),
    (f"redis+socket:///nowhere/valkey.sock?virtual_host=4&password={SECRET}", {}),
    (SENTINEL, {"master_name": "shop", "sentinel_kwargs": ONCE}),
    (SENTINEL, {"master_name": "mail", "sentinel_kwargs": ONCE}),
    (f"{SENTINEL}/2".replace("1;", "1/2;"), {"master_name": "mail", "sentinel_kwargs": ONCE}),
    (f"amqp://shop:{SECRET}@127.0.0.1:1//", {}),
    (f"amqp://shop:{SECRET}@127.0.0.1:1/mail", {}),
    (f"amqp://shop:{SECRET}@127.0.0.1:1//;amqp://shop:{SECRET}@127.0.0.1:2//", {}),
    (f"amqps://shop:{SECRET}@127.0.0.1:1//", {}),
]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Locks of its own, and nothing that was logged before."""
    monkeypatch.setenv("OTEL_CC_STATUS_DIR", str(tmp_path))
    monkeypatch.setattr(guard, "_seen", set())
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def made(url: str, options: dict[str, Any]) -> tuple[Celery, str, Any, str]:
    """An application, its system, a connection and what it is called."""
    app = Celery("brokers", broker=url, set_as_current=False)
    app.conf.broker_transport_options = options
    system = broker.system(app)
    connection = broker.connection(app, system)
    return app, system, connection, broker.identity(connection, system)


def test_brokers_and_their_parts_are_told_apart() -> None:
    found = [made(url, options)[-1] for url, options in DIFFERENT]
    assert not [pair for pair in combinations(found, 2) if pair[0] == pair[1]]


@pytest.mark.parametrize(
    "urls",
    [
        ["redis://127.0.0.1", "redis://127.0.0.1/", "redis://127.0.0.1:6379/0", f"redis://:{SECRET}@127.0.0.1//"],
        ["amqp://mail", "amqp://guest:guest@mail:5672//", "pyamqp://mail/"],
        [DIFFERENT[9][0], DIFFERENT[9][0].replace(SECRET, "another")],
    ],
    ids=["redis", "rabbitmq", "sentinel"],
)
def test_a_broker_is_the_same_however_it_is_written(urls: list[str]) -> None:
    assert len({made(url, {"master_name": "shop"})[-1] for url in urls}) == 1


# redis-py 5.0 leaves a socket open when it cannot connect it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("url", "options"), DIFFERENT, ids=[url for url, _ in DIFFERENT])
def test_no_password_is_in_the_name_of_a_broker_or_in_the_line_about_one_that_is_gone(
    url: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in redis-py 6.
    monkeypatch.setattr(ConnectionPool, "__repr__", lambda pool: f"<Pool({pool.connection_kwargs})>")
    app, system, connection, name = made(url, options)
    with caplog.at_level(logging.DEBUG, "otel_cc"):
        Monitor(app, name, system, connection, 0.0)._turn()
    assert len([record for record in caplog.records if record.name == "otel_cc"]) == 1
    assert SECRET not in name + caplog.text


@pytest.mark.parametrize("where", ["address", "options"])
def test_rabbitmq_does_not_cut_a_monitor_that_only_listens(rabbitmq: RabbitMQ, where: str) -> None:
    url = f"{rabbitmq.url}?heartbeat=2" if where == "address" else rabbitmq.url
    app, _, connection, _ = made(url, {"heartbeat": 2} if where == "options" else {})
    with app.connection_for_read() as usual, connection:
        assert (usual.connect().heartbeat, connection.connect().heartbeat) == (2, 0)
