"""Secrets and the literals of SQL end at the collector; what is needed to find a request stays."""

from __future__ import annotations

from typing import Any

import pytest

from otel_cc.local.collector import Collector
from otel_cc.local.signals import Span
from otel_cc.local.sink import Sink
from tests.stack.sender import counter, metrics, pairs, post, spans

TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-03"


def through(collector: Collector, sink: Sink, attributes: dict[str, Any]) -> Span:
    sink.clear()
    assert post(collector.http_port, "/v1/traces", spans(1, 1, attributes).SerializeToString()) == 200
    return sink.wait_spans(1)[0]


def test_secrets_are_masked_wherever_they_stand(collector: Collector, sink: Sink) -> None:
    jwt = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
    span = through(
        collector,
        sink,
        {
            "http.request.header.authorization": ["Bearer abcdefgh12345"],
            "http.request.header.cookie": ["session=abc"],
            "http.request.header.x_api_key": ["k-123"],
            "http.request.header.x-note": [f"see {jwt}"],
            "user.password": "hunter2",
            "session.token": "abc",
            "url.query": "q=tea&token=abc123&page=2",
            "url.full": "https://ada:pa55@shop.example/orders?api_key=zzz",
            "note": f"card 4111 1111 1111 1111, mail ada@example.com, {jwt}, Basic YWRhOnNlY3JldA==",
            "gen_ai.usage.input_tokens": 42,
            "http.route": "/orders/{order_id}",
            "request.id": "order-42",
        },
    )
    text = repr(span.attributes)
    hidden = (
        "abcdefgh12345",
        "session=abc",
        "k-123",
        jwt,
        "hunter2",
        "abc123",
        "pa55",
        "zzz",
        "4111",
        "ada@example",
        "YWRh",
    )
    for secret in hidden:
        assert secret not in text, (secret, text)
    assert span.attributes["session.token"] == "****"
    assert span.attributes["url.query"] == "q=tea&****&page=2"
    assert span.attributes["gen_ai.usage.input_tokens"] == 42
    assert span.attributes["http.route"] == "/orders/{order_id}"
    assert span.attributes["request.id"] == "order-42"


COMMENT = f"/*request_id='order-42',route='/orders',traceparent='{TRACEPARENT}'*/ "
KEPT = f"/*request_id='order-42',route=?,traceparent='{TRACEPARENT}'*/ "


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SELECT * FROM t1 WHERE name = 'ada' AND age > 41", "SELECT * FROM t1 WHERE name = ? AND age > ?"),
        ("SELECT 'it''s', 'b' LIMIT 10 OFFSET 20", "SELECT ?, ? LIMIT ? OFFSET ?"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (22, 'y')", "INSERT INTO t (a, b) VALUES (?, ?), (?, ?)"),
        ("SELECT $body$secret$body$, $$other$$", "SELECT ?, ?"),
        ("SELECT a WHERE a = $1 AND b = %(b)s AND c IN (1, 2)", "SELECT a WHERE a = $1 AND b = %(b)s AND c IN (?, ?)"),
        ("SELECT 'cut of", "SELECT ?"),
        (r"SELECT E'it\'s secret', e'a\\', 'the E', c, 'd'", "SELECT ?, ?, ?, c, ?"),
        (r"SELECT E'cut of \' here", "SELECT ?"),
        ("SELECT ARRAY[41, 42], a[1], a % 7, a || 8", "SELECT ARRAY[?, ?], a[?], a % ?, a || ?"),
        ("SELECT 1 WHERE b=1e5 AND c > -1.5E-3 OR d < 0xFF", "SELECT ? WHERE b=? AND c > -? OR d < ?"),
        ("SELECT 1_000, .5 AS half", "SELECT ?, ? AS half"),
        (COMMENT + "SELECT 'x'", KEPT + "SELECT ?"),
        ("SELECT col1, table2.x FROM table2", "SELECT col1, table2.x FROM table2"),
        # What is no literal, and a secret all the same: each is found by a question of its own.
        ("SELECT a -- for ada@example.com", "SELECT a -- for ****"),
        ("SELECT a -- postgresql://ada:hunter2@db/shop", "SELECT a -- postgresql****db/shop"),
        ("SELECT a -- eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "SELECT a -- ****"),
        ("SELECT a -- card 4111 1111 1111 1111", "SELECT a -- card ****"),
        ("SELECT a -- card 5105-1051-0510-5100", "SELECT a -- card ****"),
        ("SELECT a -- Password=hunter2", "SELECT a -- ****"),
        ("SELECT a -- bEaReR abcdefgh12345", "SELECT a -- ****"),
        ("SELECT a -- BaSiC YWRhOnNlY3JldA==", "SELECT a -- ****"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attribute", ["db.query.text", "db.statement"])
def test_sql_loses_its_literals_and_keeps_its_shape_and_its_comment(
    collector: Collector, sink: Sink, attribute: str, given: str, expected: str
) -> None:
    assert through(collector, sink, {attribute: given}).attributes[attribute] == expected


def test_an_error_of_the_database_does_not_quote_the_values(collector: Collector, sink: Sink) -> None:
    message = (
        "(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint\n"
        "DETAIL:  Key (name)=(Ada Lovelace) already exists.\n"
        "[SQL: INSERT INTO t VALUES ('Grace Hopper')]\n[parameters: {'name': 'Mary [x]'}]\n(Background on this error)"
    )
    request = spans(1, 1)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.status.message = message
    span.events.add(name="exception").attributes.extend(
        pairs({"exception.message": message, "exception.stacktrace": f"Traceback\n{message}"})
    )
    assert post(collector.http_port, "/v1/traces", request.SerializeToString()) == 200
    (found,) = sink.wait_spans(1)
    for text in (found.status_message, *map(str, found.events[0].attributes.values())):
        assert not any(name in text for name in ("Lovelace", "Hopper", "Mary")), text
        assert "UniqueViolation" in text and "[SQL: INSERT INTO t VALUES (?)]" in text and "Background" in text


def test_secrets_are_masked_in_metrics_and_the_name_of_a_pool_is_none(collector: Collector, sink: Sink) -> None:
    point = counter("things", 1, token="abc", pool="app@db.example", card="4111111111111111")
    assert post(collector.http_port, "/v1/metrics", metrics("shop", point).SerializeToString()) == 200
    (found,) = sink.wait_metric("things")
    assert found.attributes == {"token": "****", "pool": "app@db.example", "card": "****"}
