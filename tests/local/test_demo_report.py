"""The report of the demo: readable at any width, nothing in the data is taken for markup, and complete as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from otel_cc.local import demo_report
from otel_cc.local.evidence import Evidence
from tests.local.order import ID, TRACE, evidence


def shown(found: Evidence, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    demo_report.show(console, 1, found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_whole_path_is_shown() -> None:
    assert (
        shown(evidence(), 100)
        == f"""
1  an [bold]order[/bold] ───────────────────────────────────────────────────────────────────────────
  POST /orders
  X-Request-ID: {ID}
  {{"customer": "ada"}}

  201 in 12.3 ms
  X-Request-ID: {ID}
  {{"id": 1}}

  trace {TRACE}
  shop-api  POST /orders  2.0 ms  201
  ├── shop-api  INSERT shop  2.0 ms
  └── shop-api  publish shop.invoice  2.0 ms
      └── shop-worker  run shop.invoice  2.0 ms
          └── shop-worker  UPDATE shop  2.0 ms

  PostgreSQL logged 2 statements with this ID
  shop-api  INSERT INTO orders (customer) VALUES ($1)
      /*request_id='{ID}',route='%2Forders',
      traceparent='00-{TRACE}-0000000000000002-01'*/
  shop-worker  UPDATE orders SET status=$1
      /*request_id='{ID}',task='shop.invoice',
      traceparent='00-{TRACE}-0000000000000005-01'*/

  2 log lines with this ID
  shop-api     INFO   order 1 [red]placed[/red]
  shop-worker  ERROR  failed (KeyError: 'tea')

  ✓ status   ✓ response header   ✓ trace   ✓ worker   ✓ PostgreSQL log   ✓ log lines
"""
    )


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(evidence(), width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert not any(line.endswith(" ") for line in lines)
    together = "".join("".join(line.split()) for line in lines)
    assert together.count(ID) == 4
    assert together.count(TRACE) == 3


def test_a_broken_hop_is_shown_with_what_was_found() -> None:
    text = shown(replace(evidence(), statements=[], spans=[]), 150)
    assert "trace not found" in text
    assert "PostgreSQL logged no statements with this ID" in text
    assert "✗ trace: no spans arrived for it" in text
    assert f"✗ PostgreSQL log: PostgreSQL logged no statement of shop-api and shop-worker with {ID}" in text


def test_spans_that_failed_say_why() -> None:
    first, *others = evidence().spans
    failed = replace(first, status="ERROR", attributes={**first.attributes, "error.type": "ZeroDivisionError"})
    not_found = replace(first, span_id="f" * 16, attributes={"http.response.status_code": 404})
    text = shown(replace(evidence(), spans=[failed, *others, not_found]), 100)
    assert "  shop-api  POST /orders  2.0 ms  ZeroDivisionError\n" in text
    assert "  shop-api  POST /orders  2.0 ms  404\n" in text


def test_json_has_everything_and_a_verdict() -> None:
    good = demo_report.as_json([evidence()], [])
    assert json.loads(json.dumps(good)).keys() == good.keys()
    assert good["ok"] is True
    (request,) = good["requests"]
    assert (request["request_id"], request["trace_id"]) == (ID, TRACE)
    assert [span["name"] for span in request["spans"]] == [span.name for span in evidence().spans]
    assert request["statements"][1]["comment"]["task"] == "shop.invoice"
    assert request["log_lines"][0] == {
        "service": "shop-api",
        "level": "INFO",
        "message": "order 1 [red]placed[/red]",
        "request_id": ID,
        "trace_id": TRACE,
    }
    assert set(request["checks"].values()) == {True}
    bad = demo_report.as_json([evidence(), replace(evidence(), lines=[])], [])
    assert bad["ok"] is False
    assert bad["requests"][1]["problems"] == ["no log line of shop-api and shop-worker has its ID"]
