"""Hostile values on their way into real servers: they change nothing, and the server's log has them as they were.

The same payloads do their damage as soon as the escaper is replaced by what hand-written code does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
import sqlalchemy as sa

from otel_cc.sql import comment
from otel_cc.sql.commenter import Commenter
from tests.sql.conftest import Database, Driver, Telemetry, bare, comments, every_driver, every_postgres_driver

PAYLOADS: dict[str, Any] = {
    "ends the comment": "*/ DELETE FROM victim -- ",
    "ends the comment and commits": "x */ COMMIT; DROP TABLE victim; SELECT 1 AS id -- ",
    "becomes the statement": "x */ DELETE FROM victim RETURNING id -- ",
    "ends a comment twice": "*/*/",
    "begins comments": "/* /* /*",
    "is a hint": "/*+ SeqScan(victim) */",
    "is a list": ["*/; COMMIT; DROP TABLE victim; SELECT 1 -- "],
    "is bytes": b"*/ DELETE FROM victim -- \xff",
    "is a UUID": UUID("0af76519-16cd-43dd-8448-eb211c80319c"),
    "has quotes": "' OR ''='\"; DELETE FROM victim; --",
    "has backslashes": "\\'; DELETE FROM victim; -- \\",
    "has placeholders of drivers": "%s %(i)s %C0 %% %",
    "has placeholders of SQLAlchemy": ":i ::text ?",
    "has placeholders of servers": "$1 ?1 @i $$",
    "has lines": "a\r\n-- \nDELETE FROM victim",
    "has a zero": "a\0b",
    "has half a character": "a\ud800b",
    "has all kinds of characters": "ünï 漢字 🎉",
    "has 10 kB": "*/漢" * 2000,
}

every_payload = pytest.mark.parametrize("payload", PAYLOADS)
ROWS = [(1,), (2,), (3,)]

QUERIES: dict[str, tuple[str, dict[str, int], list[tuple[int]]]] = {
    "no parameters": ("SELECT id FROM {victim} ORDER BY id", {}, ROWS),
    "parameters": ("SELECT id FROM {victim} WHERE id > :i ORDER BY id", {"i": 1}, ROWS[1:]),
    "a percent sign": ("SELECT id FROM {victim} WHERE id % 2 = :i ORDER BY id", {"i": 1}, [(1,), (3,)]),
    "a percent sign without parameters": ("SELECT id FROM {victim} WHERE id % 2 = 1 ORDER BY id", {}, [(1,), (3,)]),
    "a comment at the end": ("SELECT id FROM {victim} ORDER BY id -- the end", {}, ROWS),
    "a semicolon at the end": ("SELECT id FROM {victim} ORDER BY id;", {}, ROWS),
}


def read_back(payload: Any) -> str:
    """What a payload is when it is decoded again, up to the limit."""
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload)
    return text.encode("utf-8", "replace").decode()


def victim(database: Database, name: str) -> None:
    """A table that somebody could want to destroy."""

    def make(connection: Any) -> None:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {name}"))
        connection.execute(sa.text(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)"))
        for (number,) in ROWS:
            connection.execute(sa.text(f"INSERT INTO {name} VALUES ({number})"))

    database.run(make)
    database.forget()


def left(database: Database, name: str) -> Any:
    """What is left of the table, seen by a statement without a comment."""
    try:
        return database.execute(f"SELECT id FROM {name} ORDER BY id")
    except sa.exc.DBAPIError:
        return "gone"


@every_driver
def test_a_hostile_value_changes_nothing_and_is_in_the_log_as_it_was(
    driver: Driver, telemetry: Callable[..., Telemetry], database: Callable[..., Database]
) -> None:
    recorded = telemetry()
    connected = database(driver)
    victim(connected, "victim")
    for payload in PAYLOADS.values():
        for query, parameters, rows in QUERIES.values():
            connected.forget()
            sql = query.format(victim="victim")
            with recorded.request(request_id=payload, route=payload):
                assert connected.execute(sql, parameters) == rows
            (received,) = connected.received("SELECT id FROM victim")
            # Placeholders are written in the way of the driver, values by psycopg2 and sqlite3.
            assert bare(received).startswith(sql.partition(":i")[0])
            (read,) = comments(received)
            assert list(read) == ["db_driver", "request_id", "route", "traceparent"]
            assert read["db_driver"] == driver.name
            for key in ("request_id", "route"):
                assert read_back(payload).startswith(read[key])
                assert read[key] == unquote(comment.quote(payload))
    assert left(connected, "victim") == ROWS


def naively(value: object) -> str:
    """What hand-written code does instead of quoting."""
    return str(value)


@pytest.fixture
def naive(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our code with the escaper taken out."""
    monkeypatch.setattr(comment, "quote", naively)
    comment.around.cache_clear()
    yield
    comment.around.cache_clear()


SELECT = "SELECT id FROM victim ORDER BY id"


@every_driver
def test_without_the_escaper_a_value_becomes_the_statement(
    driver: Driver, naive: None, telemetry: Callable[..., Telemetry], database: Callable[..., Database]
) -> None:
    recorded = telemetry()
    connected = database(driver)
    victim(connected, "victim")
    with recorded.request(request_id=PAYLOADS["becomes the statement"]):
        assert sorted(connected.execute(SELECT)) == ROWS
    assert left(connected, "victim") == []


@pytest.mark.parametrize("payload", ["ends the comment and commits", "is a list"])
@pytest.mark.parametrize("parameters", [{}, {"i": 1}], ids=["no parameters", "parameters"])
def test_without_the_escaper_a_value_drops_the_table(
    payload: str,
    parameters: dict[str, int],
    naive: None,
    telemetry: Callable[..., Telemetry],
    database: Callable[..., Database],
) -> None:
    recorded = telemetry()
    connected = database(Driver("psycopg2", False))
    victim(connected, "victim")
    with recorded.request(request_id=PAYLOADS[payload]):
        connected.execute("SELECT id FROM victim WHERE id > :i" if parameters else SELECT, parameters)
    assert left(connected, "victim") == "gone"


BREAKS = ["begins comments", "has a zero", "has half a character"]


@pytest.mark.parametrize("payload", BREAKS)
@every_postgres_driver
def test_without_the_escaper_a_value_breaks_the_query(
    driver: Driver,
    payload: str,
    naive: None,
    telemetry: Callable[..., Telemetry],
    database: Callable[..., Database],
) -> None:
    recorded = telemetry()
    connected = database(driver)
    victim(connected, "victim")
    with recorded.request(request_id=PAYLOADS[payload]), pytest.raises((sa.exc.StatementError, ValueError)):
        connected.execute(SELECT)


ROUTE = "/items/{id}"


@every_driver
def test_doubling_a_percent_sign_the_wrong_way_breaks_the_query_or_the_value(
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    telemetry: Callable[..., Telemetry],
    database: Callable[..., Database],
) -> None:
    """Why it depends on the driver; Google's package doubles always (google/sqlcommenter #57)."""
    original = Commenter.comment

    def wrongly(self: Commenter, correlation: Any, linked: Any, doubled: bool) -> str:
        return original(self, correlation, linked, not doubled)

    recorded = telemetry()
    connected = database(driver)
    victim(connected, "victim")
    monkeypatch.setattr(Commenter, "comment", wrongly)
    with recorded.request(route=ROUTE):
        if connected.sync_engine.dialect.paramstyle in ("format", "pyformat"):
            with pytest.raises((sa.exc.DBAPIError, TypeError, ValueError)):
                connected.execute(SELECT)
        else:
            assert connected.execute(SELECT) == ROWS
            assert comments(connected.received(SELECT)[0])[0]["route"] == "/items/%{id%}"
