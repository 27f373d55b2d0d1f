"""Labels are bounded also against callers and code that choose 10,000 of everything, and nothing goes uncounted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from otel_cc.local.process import Processes
from otel_cc.local.sink import Sink
from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE, OTHER, SERIES_LIMIT
from tests.conftest import Launch
from tests.truth.client import Connection, Tally, talk
from tests.truth.exported import Exported
from tests.truth.mix import QUEUES, ROUTES, Chat, Kind, Planned

MANY = 10_000
# Engines and statements are dear; their bounds are small.
SOME = 300
CODES = range(4000, 4100)
CONNECTIONS = 16
# What the server's parser lets through and HTTP's own standard does not know.
METHODS = (
    *("ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL"),
    *("MOVE", "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SUBSCRIBE", "UNBIND"),
    *("UNLINK", "UNLOCK", "UNSUBSCRIBE"),
)


@dataclass
class Attack:
    """What was thrown, and what came of it."""

    tally: Tally
    exported: Exported


def requests() -> Iterator[tuple[str, Kind]]:
    for number in range(MANY):
        method = METHODS[number % len(METHODS)] if number % 10 == 0 else "GET"
        headers = f"X-Forwarded-Host: host{number}\r\nX-Forwarded-Proto: scheme{number}\r\n"
        yield "unknown", Kind(1, f"/path{number}", method, status=404, headers=headers)
        yield "names", Kind(1, f"/names/{number}", status=503)
    for number in range(SOME):
        yield "queries", Kind(1, f"/queries/{number}")
    for number in range(ROUTES):
        yield "made", Kind(1, f"/made/{number}", status=502)


async def throw(port: int, tally: Tally) -> None:
    left = enumerate(requests())
    codes = iter(CODES)

    async def work() -> None:
        connection = Connection(port, tally)
        for number, (name, kind) in left:
            await connection.send(Planned(name, kind.path, host=f"host{number}:{number}"), kind)
        await connection.close()
        for code in codes:
            await talk(port, Planned("closes", f"/closes/{code}"), Chat(1, "", None, code), tally)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    tally = Tally()
    folder = tmp_path_factory.mktemp("hostile")
    with Sink() as sink, Processes() as processes:
        # Spans are not what is looked at here.
        env = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_METRIC_EXPORT_INTERVAL": "2000"}
        launch = Launch(processes, sink, folder)
        server = launch.uvicorn("--no-access-log", app="hostile:app", cwd=Path(__file__).parent, env=env)
        asyncio.run(throw(server.port, tally))
        server.process.stop()
        return Attack(tally, Exported(sink.exports))


def test_every_answer_was_the_expected_one(attack: Attack) -> None:
    assert attack.tally.answers == {
        ("unknown", 404): MANY,
        ("names", 503): MANY,
        ("queries", 200): SOME,
        ("made", 502): ROUTES,
    }
    assert attack.tally.chats == {("closes", code): 1 for code in CODES}


def test_no_attribute_has_more_values_than_its_bound(attack: Attack) -> None:
    values: dict[str, set[object]] = defaultdict(set)
    for name in CATALOGUE:
        for point in attack.exported.points(name):
            for attribute, value in point.attributes.items():
                values[attribute].add(value)
    assert {name: len(found) for name, found in values.items() if len(found) > BOUNDS.get(name, 0)} == {}
    # They were reached, so it is the bound that has held them.
    chosen = ("celery.task.name", "messaging.destination.name", "http.route", "endpoint", "error.type", "error_type")
    chosen += ("db.namespace", "db.client.connection.pool.name")
    assert {name: len(values[name]) for name in chosen} == {name: BOUNDS[name] for name in chosen}
    assert values["http.request.method"] == {"GET", OTHER}
    assert values["db.operation.name"] == {"CONNECT", "OTHER"}
    # The registered ones have their places.
    assert OTHER in values["websocket.close_code"]


def test_no_instrument_has_more_series_than_the_limit(attack: Attack) -> None:
    series = {name: len(attack.exported.points(name)) for name in CATALOGUE}
    assert {name: number for name, number in series.items() if number > SERIES_LIMIT} == {}


def test_what_is_beyond_a_bound_is_counted_all_the_same(attack: Attack) -> None:
    exported = attack.exported
    everything = 2 * MANY + SOME + ROUTES
    totals = {
        "http.server.request.duration": everything,
        "http.server.request.body.size": everything,
        "http.server.response.body.size": everything,
        "websocket.server.connection.duration": len(CODES),
        "commandcenter.errors": 2 * MANY + ROUTES,
        "messaging.client.sent.messages": MANY,
        "messaging.client.operation.duration": MANY,
        "db.client.errors": SOME,
        "db.client.connection.wait_time": SOME,
    }
    assert {name: exported.totals(name).get((), 0) for name in totals} == totals


def test_the_overflow_is_counted(attack: Attack) -> None:
    overflow = attack.exported.totals("commandcenter.metrics.overflow", "label")
    distinct = {
        "celery.task.name": MANY,
        "messaging.destination.name": QUEUES,
        "error.type": MANY,
        "error_type": MANY,
        "http.route": ROUTES,
        "endpoint": ROUTES,
        "db.namespace": SOME,
        "db.client.connection.pool.name": SOME,
        "websocket.close_code": len(CODES),
    }
    # One place is kept for the overflow itself.
    beyond = {label: number - (BOUNDS[label] - 1) for label, number in distinct.items()}
    assert {label: number for label, number in beyond.items() if overflow.get((label,), 0) < number} == {}
    assert {label for (label,) in overflow} == set(distinct)
