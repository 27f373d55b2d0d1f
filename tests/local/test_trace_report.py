"""The report of one trace: everything a reader needs at any width, and honest about what is not there."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import replace

import pytest
from rich.console import Console

from otel_cc.local import trace_report
from otel_cc.local.signals import Event, Span
from otel_cc.local.traces import Trace, group
from tests.local.order import ID, TRACE, evidence, span


def shown(trace: Trace, width: int = 110, limit: int = 1000) -> str:
    file = io.StringIO()
    trace_report.show(Console(file=file, width=width, highlight=False), trace, limit=limit)
    return file.getvalue()


def sql(number: int, text: str, name: str = "db.query.text") -> Span:
    return span("SELECT shop", "CLIENT", "shop-api", number, 1, **{name: text})


ROOT, *_ = evidence().spans


def test_a_trace_is_shown_with_its_facts() -> None:
    (trace,) = group(evidence().spans)
    assert shown(trace) == (
        f"""trace {TRACE}
request ID {ID}, 1970-01-01 00:00:00.001 UTC, 5 spans, 2 services, 6.0 ms, no errors
shop-api  POST /orders  2.0 ms  201
├── shop-api  INSERT shop  2.0 ms
└── shop-api  publish shop.invoice  2.0 ms
    └── shop-worker  run shop.invoice  2.0 ms
        └── shop-worker  UPDATE shop  2.0 ms
"""
    )


def test_a_statement_stands_below_its_span_with_the_comment_that_is_recorded() -> None:
    comment = f"/*request_id='{ID}',route='%2Forders',traceparent='00-{TRACE}-0000000000000002-01'*/"
    (trace,) = group([ROOT, sql(2, f"{comment} SELECT *\n\tFROM orders", "db.statement")])
    lines = shown(trace, 200).splitlines()
    assert lines[3:] == [
        "└── shop-api  SELECT shop  2.0 ms",
        "    SELECT * FROM orders  span 0000000000000002",
        f"    /* request_id={ID}, route=/orders, traceparent=00-{TRACE}-0000000000000002-01 */",
    ]


def test_it_is_said_where_the_comment_is_that_a_span_does_not_have() -> None:
    (trace,) = group([ROOT, sql(2, "SELECT 1 /* by hand */")])
    text = " ".join(shown(trace).split())
    assert "SELECT 1 span 0000000000000002" in text
    assert f"The comment that PostgreSQL got, if there was one, has traceparent='00-{TRACE}-SPAN-..'" in text


def test_an_error_says_what_and_why() -> None:
    event = Event("exception", 1, {"exception.type": "KeyError", "exception.message": "'tea'\nmore"})
    failed = replace(ROOT, status="ERROR", attributes={"error.type": "KeyError"}, events=(event,))
    plain = replace(failed, span_id="f" * 16, events=(), status_message="it broke")
    (trace,) = group([failed, plain])
    text = shown(trace)
    assert "no request ID" in text
    assert "2 errors" in text
    assert "shop-api  POST /orders  2.0 ms  KeyError\n" in text
    assert "KeyError: 'tea' more\n" in text
    assert "it broke\n" in text


def test_a_missing_parent_is_named() -> None:
    (trace,) = group([replace(ROOT, parent_id="00f067aa0ba902b7")])
    assert "\nits parent 00f067aa0ba902b7 is not here\n" in shown(trace)


def test_of_ten_thousand_spans_the_first_are_shown_and_every_failure_is_counted() -> None:
    spans = [ROOT, *(sql(number, f"SELECT {number}") for number in range(2, 10_001))]
    spans[-1] = replace(spans[-1], status="ERROR", attributes={"error.type": "53300"})
    start = time.thread_time()
    (trace,) = group(spans)
    lines = shown(trace).splitlines()
    assert time.thread_time() - start < 20
    assert "10,000 spans" in lines[1]
    assert len(lines) < 2100
    assert "9,000 more spans not shown, 1 of them failed (--limit 0 shows all of them)" in lines
    assert "  shop-api  SELECT shop  2.0 ms  53300" in lines
    assert len(trace_report.as_json([trace])[0]["spans"]) == 10_000


@pytest.mark.parametrize("width", [30, 60, 110, 300])
def test_no_line_of_the_tree_is_wider_than_the_terminal(width: int) -> None:
    chain = [span(f"s{number}", "INTERNAL", "shop", number, number - 1 or None) for number in range(1, 200)]
    (trace,) = group([*chain, sql(500, "SELECT " + "column, " * 100)])
    assert max(map(len, shown(trace, width).splitlines()[2:])) <= width


def test_nothing_reaches_the_terminal_raw() -> None:
    evil = "\x1b[2J\x9b[red]\u202e\x07"
    event = Event("exception", 1, {"exception.type": evil, "exception.message": [evil]})
    bad = replace(
        ROOT,
        name=evil,
        parent_id=evil,
        status="ERROR",
        attributes={"request.id": evil, "db.query.text": f"{evil} /*a='{evil}',b='%1B%5B2J'*/", "error.type": evil},
        resource={"service.name": evil},
        events=(event,),
        start=-(2**70),
        end=2**70,
    )
    (trace,) = group([bad])
    assert all(line.isprintable() for line in shown(trace, 400).splitlines())
    assert "\x1b" not in json.dumps(trace_report.as_json([trace]))


def test_json_has_bytes_and_numbers_that_are_none_as_otlp_has_them() -> None:
    odd = [math.nan, {"deep": [math.inf]}, -math.inf, 0.5, b"\0\1"]
    (answer,) = trace_report.as_json(group([replace(ROOT, attributes={"odd": odd}, resource={"r": math.nan})]))
    (found,) = json.loads(json.dumps(answer, allow_nan=False))["spans"]
    assert found["attributes"]["odd"] == ["NaN", {"deep": ["Infinity"]}, "-Infinity", 0.5, "AAE="]
    assert found["resource"]["r"] == "NaN"


def test_json_has_the_tree_and_the_comments() -> None:
    comment = "/*request_id='order-42'*/"
    (answer,) = trace_report.as_json(group([ROOT, sql(2, f"{comment} SELECT 1"), span("lost", "INTERNAL", "x", 9, 8)]))
    assert json.loads(json.dumps(answer)) == json.loads(json.dumps(answer))
    assert (answer["trace_id"], answer["request_ids"], answer["services"]) == (TRACE, [ID], ["shop-api", "x"])
    keys = ("name", "service", "depth", "parent_missing", "sql_comment")
    assert [tuple(one[key] for key in keys) for one in answer["spans"]] == [
        ("POST /orders", "shop-api", 0, False, None),
        ("SELECT shop", "shop-api", 1, False, {"request_id": "order-42"}),
        ("lost", "x", 0, True, None),
    ]
