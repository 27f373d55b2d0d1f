"""Secrets and the literals of SQL end at the collector; what is needed to find a request stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from otel_cc.local import collector as local_collector
from otel_cc.local.collector import Collector
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.shipped import shipped
from otel_cc.local.signals import LogRecord, Span
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK
from tests.stack.sender import INFO, counter, log, metrics, pairs, post, spans

TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-03"


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def collector(module_processes: Processes, sink: Sink) -> Collector:
    """One for all: it keeps nothing of what went through."""
    stores = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint}
    env = {**QUICK, **stores, "OTEL_CC_LOGS_URL": f"{sink.endpoint}/v1/logs"}
    quick = module_processes.folder / "quick.yaml"
    quick.write_text(
        "exporters:\n"
        "  otlp_http/traces: &quick {sending_queue: {batch: {flush_timeout: 10ms}}}\n"
        "  otlp_http/logs: *quick\n"
    )
    return local_collector.start(module_processes, overlays=["local", "logs", str(quick)], env=env)


def through(
    collector: Collector, sink: Sink, attributes: Mapping[str, Any], *, name: str = "work", status: str = ""
) -> Span:
    """What becomes of a span; its status is also the message of its exception."""
    request = spans(1, 1, attributes)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.name = name
    if status:
        span.status.message = status
        quoted = {"exception.message": status, "exception.stacktrace": TRACEBACK.format(status)}
        span.events.add(name="exception").attributes.extend(pairs(quoted))
    sink.clear()
    assert post(collector.http_port, "/v1/traces", request.SerializeToString()) == 200
    return sink.wait_spans(1)[0]


TRACEBACK = """Traceback (most recent call last):
  File "driver.py", line 3, in execute
    raise error
{}

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
KeyError: the last line
"""


def logged(
    collector: Collector, sink: Sink, body: Any, attributes: Mapping[str, Any] | None = None, **more: Any
) -> LogRecord:
    """What becomes of a log record."""
    sink.clear()
    assert post(collector.http_port, "/v1/logs", log(body, attributes, **more).SerializeToString()) == 200
    return wait_until(sink.logs, 30, "the log record")[0]


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
            "apiToken": "k-456",
            "jwtToken": "k-789",
            "url.query": "q=tea&token=abc123&page=2&client_secret=k-321",
            "url.full": "https://ada:pa55@shop.example/orders?api_key=zzz",
            "note": f"card 4111 1111 1111 1111, mail ada@example.com, {jwt}, Basic YWRhOnNlY3JldA==",
            "broker": "redis://:s3cret@host:6379/0, postgresql://ada:s3/cret@host/shop, amqp://ada:s3@cret@host",
            "made": """User(name='ada', password='hunter2 a', token="abc123")""",
            "answer": """{"name": "ada", "token": "abc123", 'secret': 'hunter2'}""",
            "signed": "https://store.example/a?se=1&sig=zzz&sp=r, Server=db;UID=sa;PWD=hunter2",
            "address": "http://host:8080/users/7/@me",
            "help": "basic information, Basic Authentication",
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
        "k-456",
        "k-789",
        "k-321",
        "s3",
        "cret@",
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
    assert span.attributes["url.query"] == "q=tea&****&page=2&client_****"
    assert span.attributes["broker"] == "redis****host:6379/0, postgresql****host/shop, amqp****host"
    assert span.attributes["made"] == "User(name='ada', ****, ****)"
    assert span.attributes["answer"] == """{"name": "ada", "****, '****}"""
    assert span.attributes["signed"] == "https://store.example/a?se=1&****&sp=r, Server=db;UID=sa;****"
    assert span.attributes["address"] == "http://host:8080/users/7/@me"
    assert span.attributes["help"] == "basic information, Basic Authentication"
    assert span.attributes["gen_ai.usage.input_tokens"] == 42
    assert span.attributes["http.route"] == "/orders/{order_id}"
    assert span.attributes["request.id"] == "order-42"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ValueError: no ada@example.com", "ValueError: no ****"),
        ("cannot connect to redis://:s3cret@host", "cannot connect to redis****host"),
        ("card 4111 1111 1111 1111", "card ****"),
        ("card 5105-1051-0510-5100", "card ****"),
        ("eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", "****"),
        ("Bearer abcdefgh12345", "****"),
        ("Basic YWRhOnNlY3JldA==", "****"),
        ("token=abc123", "****"),
        ("User(password='hunter2 a')", "User(****)"),
        ("GET /orders/{number}", "GET /orders/{number}"),
    ],
)
def test_secrets_are_masked_in_names_and_statuses(collector: Collector, sink: Sink, given: str, expected: str) -> None:
    span = through(collector, sink, {}, name=given, status=given)
    assert (span.name, span.status_message) == (expected, expected)
    assert span.events[0].attributes["exception.message"] == expected


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
        ("SELECT a FROM t\nWHERE 4711 = a\nLIMIT\t5", "SELECT a FROM t\nWHERE ? = a\nLIMIT\t?"),
        ("SELECT in1, or2 FROM t", "SELECT in1, or2 FROM t"),
        ("SELECT $q1$secret$q1$, $$it's secret", "SELECT ?, ?"),
        ("SELECT $q1$ cut of $$ secret", "SELECT ?"),
        ("SELECT $q1$it's $$ secret$q1$, $1", "SELECT ?, $1"),
        # An apostrophe in a comment or a name begins no literal, and what looks like a comment in a literal is none.
        ("SELECT a -- the customer's name\nFROM t WHERE a = 'b'", "SELECT a -- the customer\nFROM t WHERE a = ?"),
        ("SELECT a /* it's */ FROM t WHERE a = 'b'", "SELECT a /* it*/ FROM t WHERE a = ?"),
        ("SELECT a /* it's cut of 'b", "SELECT a /* it"),
        ("""SELECT "o'clock" FROM "t" WHERE a = 'b'""", """SELECT "o" FROM "t" WHERE a = ?"""),
        ("""SELECT 'a "b', "c", 'd /* e', 'f */ -- g', 'h'""", """SELECT ?, "c", ?, ?, ?"""),
        ("SELECT 'a -- b', 'c' -- d", "SELECT ?, ? -- d"),
        (COMMENT + "SELECT 'x'", KEPT + "SELECT ?"),
        ("SELECT 'x' " + COMMENT, "SELECT ? " + KEPT),
        (COMMENT + "SELECT 'x' -- it's", KEPT + "SELECT ? -- it"),
        ("SELECT a WHERE token=$1 AND password='b'", "SELECT a WHERE token=$1 AND password=?"),
        # Columns with the names of what is kept in a comment.
        ("UPDATE t SET request_id='a' WHERE traceparent='b'", "UPDATE t SET request_id=? WHERE traceparent=?"),
        ("SELECT col1, table2.x FROM table2", "SELECT col1, table2.x FROM table2"),
        # What is no literal, and a secret all the same: each is found by a question of its own.
        ("SELECT a -- for ada@example.com", "SELECT a -- for ****"),
        ("SELECT a -- postgresql://ada:hunter2@db/shop", "SELECT a -- postgresql****db/shop"),
        ("SELECT a -- eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "SELECT a -- ****"),
        ("SELECT a -- card 4111 1111 1111 1111", "SELECT a -- card ****"),
        ("SELECT a -- card 5105-1051-0510-5100", "SELECT a -- card ****"),
        ("SELECT a -- redis://:hunter2@host", "SELECT a -- redis****host"),
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


BACKGROUND = "\n(Background on this error at: https://sqlalche.me/e/20/gkpj)"

# What drivers and SQLAlchemy write; everything of a person is to go.
ERRORS = [
    (
        '(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint "people_pkey"\n'
        "DETAIL:  Key (name)=(Ada Lovelace) already exists.\n"
        "[SQL: INSERT INTO t VALUES ('Grace Hopper')]\n[parameters: {'name': 'Mary [x]'}]" + BACKGROUND,
        '(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint "people_pkey"\n'
        "DETAIL:  Key (name)=(?)\n[SQL: INSERT INTO t VALUES (?)]\n[parameters: ?]" + BACKGROUND,
    ),
    (
        'null value in column "born" of relation "people" violates not-null constraint\n'
        "DETAIL:  Failing row contains (1, Ada\n(Lovelace), null).\n[SQL: SELECT 1]" + BACKGROUND,
        'null value in column "born" of relation "people" violates not-null constraint\n'
        "DETAIL:  Failing row contains (?)\n[SQL: SELECT 1]" + BACKGROUND,
    ),
    (
        "conflicting key value\nDETAIL:  Key (a, b)=(Ada, 5) conflicts with existing key (a, b)=(Lovelace, 5).",
        "conflicting key value\nDETAIL:  Key (a, b)=(?)",
    ),
    (
        "no index\nDETAIL:  Key (lower(name))=(Ada) is duplicated.\nHINT:  None.",
        "no index\nDETAIL:  Key (?)\nHINT:  None.",
    ),
    (
        "invalid input syntax for type integer: \"Ada\nLovelace\"\nLINE 1: ...elace', 'Ada'::int\n          ^",
        'invalid input syntax for type integer: "?"\nLINE 1: ?\n          ^',
    ),
    (
        'value "99 Ada" is out of range for type integer\n[SQL: SELECT $$Ada$$]' + BACKGROUND,
        'value "?" is out of range for type integer\n[SQL: SELECT ?]' + BACKGROUND,
    ),
    (
        'invalid input syntax for type json\nDETAIL:  Token "Ada" is invalid.\nCONTEXT:  JSON data, line 1: {"a": Ada...',
        'invalid input syntax for type json\nDETAIL:  Token "?" is invalid.\nCONTEXT:  JSON data, line 1: ?',
    ),
    (
        "can't adapt\n[SQL: SELECT 'Grace', 'Ada\nLovelace', 'Hopper'\nFROM t]\n[parameters: ('Ada\n', 1)]"
        + BACKGROUND,
        "can't adapt\n[SQL: SELECT ?, ?]\n[parameters: ?]" + BACKGROUND,
    ),
    ("[SQL: SELECT 1]\n[parameters: {'name': 'Ada cut o", "[SQL: SELECT 1]\n[parameters: ?]"),
    (
        "invalid input for query argument $1: 5 (Ada is no integer)\n[SQL: SELECT 1]" + BACKGROUND,
        "invalid input for query argument $1: ?\n[SQL: SELECT 1]" + BACKGROUND,
    ),
    (
        "(1062, \"Duplicate entry 'Ada's' for key 'PRIMARY'\")\n[SQL: SELECT 1]" + BACKGROUND,
        '(1062, "Duplicate entry ? for key ?")\n[SQL: SELECT 1]' + BACKGROUND,
    ),
    # As repr() writes it.
    (
        "IntegrityError('duplicate\\nDETAIL:  Key (name)=(Ada) already exists.\\n[SQL: INSERT]')",
        "IntegrityError('duplicate\\nDETAIL:  Key (name)=(?)",
    ),
]


@pytest.mark.parametrize(("given", "expected"), ERRORS)
def test_an_error_of_the_database_does_not_quote_the_values(
    collector: Collector, sink: Sink, given: str, expected: str
) -> None:
    span = through(collector, sink, {}, status=given)
    assert span.status_message == span.events[0].attributes["exception.message"] == expected
    assert span.events[0].attributes["exception.stacktrace"] == TRACEBACK.format(expected)


@pytest.mark.parametrize(("given", "expected"), ERRORS)
def test_a_log_record_does_not_quote_them_either(collector: Collector, sink: Sink, given: str, expected: str) -> None:
    attributes = {"exception.message": given, "exception.stacktrace": TRACEBACK.format(given)}
    failed = {"exc": given, "traceback": TRACEBACK.format(given), "name": "shop.pay"}
    record = logged(collector, sink, given, {**attributes, "data": failed})
    assert record.body == record.attributes["exception.message"] == expected
    assert record.attributes["exception.stacktrace"] == TRACEBACK.format(expected)
    data = {"exc": expected, "traceback": TRACEBACK.format(expected), "name": "shop.pay"}
    assert record.attributes["data"] == data


def test_secrets_are_masked_in_log_records_and_nothing_else(collector: Collector, sink: Sink) -> None:
    record = logged(
        collector, sink, "mail to ada@example.com took 5 = 5, 'x'", {"apiToken": "a", "card": 4111111111111111}
    )
    assert record.body == "mail to **** took 5 = 5, 'x'"
    assert record.attributes["apiToken"] == record.attributes["card"] == "****"
    record = logged(collector, sink, {"user": {"password": "hunter2"}, "mail": "ada@example.com"}, {"data": "text"})
    assert record.body == {"user": {"password": "****"}, "mail": "****"} and record.attributes["data"] == "text"


@pytest.mark.parametrize(
    "line",
    [
        "checkpoint complete: wrote 44 buffers (0.3%), 0 removed; write=4.104 s, total=4.2 s; lsn=0/1A2B, redo lsn=0/1A",
        'automatic vacuum of table "a.b.c": index scans: 0\npages: 0 removed, 5 remain (100.00% of total), write=3',
    ],
)
def test_what_postgresql_tells_of_itself_keeps_its_numbers(collector: Collector, sink: Sink, line: str) -> None:
    assert logged(collector, sink, line, service="postgresql", severity=INFO).body == line


PLAN = """duration: 0.1 ms  plan:
{
  "Query Text": "%s",
  "Plan": {
    "Plan Rows": 5,
    "Filter": "%s"
  }
}"""
TEXT_PLAN = """duration: 0.1 ms  plan:
Query Text: SELECT a -- the customer%s
FROM t WHERE a = %s
Seq Scan on t  (cost=0.00..1.02 rows=1 width=4) (actual time=0.004..0.005 rows=1.00 loops=1)
  Filter: (a = %s::text)"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("duration: 0.1 ms  statement: SELECT 'Ada', 5, $q1$Ada$q1$", "duration: 0.1 ms  statement: SELECT ?, ?, ?"),
        ("duration: 0.1 ms  execute <unnamed>: SELECT 'Ada'", "duration: 0.1 ms  execute <unnamed>: SELECT ?"),
        (
            PLAN % (r"SELECT a -- the customer's\nFROM \"t\" WHERE a = 'Ada'", r"((\"o'clock\" = 'Ada') AND (b = 5))"),
            PLAN % (r"SELECT a -- the customer", r"((\"o"),
        ),
        (
            PLAN % (r"SELECT a -- note\nFROM \"t\" WHERE a = 'Ada' /* b */ AND c = $$Ada$$", "(a = 'Ada'::text)"),
            PLAN % (r"SELECT a -- note\nFROM \"t\" WHERE a = ? /* b */ AND c = ?", "(a = ?::text)"),
        ),
        (PLAN % (r"SELECT E'it\\'s Ada', 'Ada'", "(a = 'Ada')"), PLAN % ("SELECT ", "(a = ?)")),
        (TEXT_PLAN % ("'s", "'Ada'", "'Ada'"), TEXT_PLAN % ("", "?", "?")),
    ],
)
def test_statements_and_plans_in_the_log_of_postgresql_lose_their_literals(
    collector: Collector, sink: Sink, given: str, expected: str
) -> None:
    assert logged(collector, sink, given, service="postgresql", severity=INFO).body == expected


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("detail", "Failing row contains (1, Ada Lovelace, null).", "Failing row contains (?)"),
        ("detail", "Key (a)=(Ada\n) conflicts with existing key (a)=(Ada).", "Key (a)=(?)"),
        ("detail", "Parameters: $1 = 'Ada', $2 = '5'", "Parameters: $1 = ?, $2 = ?"),
        ("detail", "Process 5 waits.\nProcess 6: SELECT f('Ada', 5)", "Process 5 waits.\nProcess 6: SELECT f(?, ?)"),
        ("context", 'COPY people, line 1, column age: "Ada"', "COPY people, line 1, column age: ?"),
        ("context", "SQL statement \"SELECT 'Ada'\"\nline 3", 'SQL statement "SELECT "\nline 3'),
        ("statement", "SELECT a -- it's\nFROM t WHERE a = 'Ada'", "SELECT a -- it\nFROM t WHERE a = ?"),
        ("internal_query", "SELECT $q1$Ada$q1$", "SELECT ?"),
    ],
)
def test_what_belongs_to_an_error_in_the_log_of_postgresql_loses_its_values(
    collector: Collector, sink: Sink, name: str, given: str, expected: str
) -> None:
    body = 'invalid input syntax for type integer: "Ada"'
    record = logged(collector, sink, body, {name: given}, service="postgresql")
    assert record.body == 'invalid input syntax for type integer: "?"'
    assert record.attributes[name] == expected


def test_spans_events_and_logs_follow_the_same_rules() -> None:
    config = yaml.safe_load((shipped("collector") / "base.yaml").read_text())["processors"]
    traces = config["transform/sql"]["trace_statements"]
    groups = [_rules(group) for group in (*traces, *config["transform/logs"]["log_statements"])]
    sql, events, statuses, _secrets, lines, _details, logs = groups
    assert events == statuses == logs and len(events) == 10
    # What is longest in them asks about everything at once, so that spans have a quick one for the ordinary literal.
    assert [rule for rule in sql if rule not in lines] == [rule for rule in sql if rule.startswith("\"'(?:[^']|'')*")]
    assert len(sql) == 9


def _rules(group: dict[str, Any]) -> list[str]:
    """Pattern and replacement of each statement."""
    found = [
        re.match(r'replace_\w+\((?:[^,"]|"\w+"\])+, (?:"value", )?("(?:[^"\\]|\\.)*", "(?:[^"\\]|\\.)*")', one)
        for one in group["statements"]
    ]
    return [match[1] for match in found if match]


def test_secrets_are_masked_in_metrics_and_the_name_of_a_pool_is_none(collector: Collector, sink: Sink) -> None:
    point = counter("things", 1, token="abc", pool="app@db.example", card="4111111111111111")
    assert post(collector.http_port, "/v1/metrics", metrics("shop", point).SerializeToString()) == 200
    (found,) = sink.wait_metric("things")
    assert found.attributes == {"token": "****", "pool": "app@db.example", "card": "****"}
