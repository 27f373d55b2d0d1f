"""The checks of the demo: all hold when everything works, and each was seen to fail when its hop is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from otel_cc.local.application import API, WORKER
from otel_cc.local.evidence import HEADER, Evidence, LogLine, Response, expected_trace_id
from tests.local.order import ID, REQUEST, TRACE, evidence, span


def failing(found: Evidence) -> dict[str, str]:
    return {check.name: check.problem for check in found.checks() if not check.ok}


def test_everything_holds_when_everything_works() -> None:
    assert failing(evidence()) == {}
    assert [check.name for check in evidence().checks()] == [
        "status", "response header", "trace", "worker", "PostgreSQL log", "log lines",
    ]  # fmt: skip


BROKEN: dict[str, tuple[Callable[[Evidence], Evidence], dict[str, str]]] = {
    "another status": (
        lambda e: replace(e, response=replace(e.response, status=200, body="{}")),
        {"status": "the status is 200 instead of 201: {}"},
    ),
    "no header": (
        lambda e: replace(e, response=replace(e.response, ids=[])),
        {"response header": f"the response has 0 {HEADER} headers instead of one"},
    ),
    "two headers": (
        lambda e: replace(e, response=replace(e.response, ids=[ID, ID])),
        {"response header": f"the response has 2 {HEADER} headers instead of one"},
    ),
    "another ID in the header": (
        lambda e: replace(e, response=replace(e.response, ids=["other"])),
        {"response header": f"the response has other instead of {ID}"},
    ),
    "no spans": (
        lambda e: replace(e, spans=[]),
        {
            "trace": "no spans arrived for it",
            "worker": "the worker has 0 runs of the task in its trace instead of 1",
            "PostgreSQL log": "PostgreSQL logged 2 statements with its ID, and 0 spans say so",
            "log lines": "log lines that name another trace than : order 1 [red]placed[/red]; failed\n",
        },
    ),
    "the worker in a trace of its own": (
        lambda e: replace(e, spans=[*e.spans[:3], *(replace(s, trace_id="f" * 32) for s in e.spans[3:])]),
        {"trace": "its spans are in 2 traces instead of one"},
    ),
    "another trace": (
        lambda e: replace(
            e,
            spans=[replace(s, trace_id="f" * 32) for s in e.spans],
            statements=[replace(s, sql=s.sql.replace(TRACE, "f" * 32)) for s in e.statements],
            lines=[LogLine(line.service, {**line.fields, "trace_id": "f" * 32}) for line in e.lines],
        ),
        {"trace": f"its trace is {'f' * 32} instead of {TRACE}"},
    ),
    "two server spans": (
        lambda e: replace(e, spans=[*e.spans, span("POST /orders", "SERVER", API, 9, 1)]),
        {"trace": "the API has 2 server spans for it instead of one"},
    ),
    "a span without the ID": (
        lambda e: replace(e, spans=[*e.spans, replace(span("plain", "INTERNAL", API, 9, 1), attributes={})]),
        {"trace": f"spans without request.id={ID}: plain"},
    ),
    "a lost parent": (
        lambda e: replace(e, spans=[s for s in e.spans if s.kind != "PRODUCER"]),
        {"trace": "spans whose parent is missing: run shop.invoice"},
    ),
    "a second run": (
        lambda e: replace(e, spans=[*e.spans, span("run shop.invoice", "CONSUMER", WORKER, 9, 3)]),
        {"worker": "the worker has 2 runs of the task in its trace instead of 1"},
    ),
    "no comment from the worker": (
        lambda e: replace(e, statements=e.statements[:1]),
        {"PostgreSQL log": f"PostgreSQL logged no statement of shop-worker with {ID}"},
    ),
    "a statement without a span": (
        lambda e: replace(e, statements=[*e.statements, e.statements[0]]),
        {"PostgreSQL log": "PostgreSQL logged 3 statements with its ID, and 2 spans say so"},
    ),
    "a comment of another trace": (
        lambda e: replace(e, statements=[e.statements[0], replace(e.statements[1], sql=f"SELECT 1 /*request_id='{ID}'*/")]),
        {"PostgreSQL log": f"a comment names another trace than {TRACE}: SELECT 1 /*request_id='{ID}'*/"},
    ),
    "no log line of the worker": (
        lambda e: replace(e, lines=e.lines[:1]),
        {"log lines": "no log line of shop-worker has its ID"},
    ),
    "a log line of another trace": (
        lambda e: replace(e, lines=[e.lines[1], LogLine(API, {"message": "lost", "trace_id": ""})]),
        {"log lines": f"log lines that name another trace than {TRACE}: lost"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_hop_is_seen(name: str) -> None:
    breaks, problems = BROKEN[name]
    assert failing(breaks(evidence())) == problems


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"detail": "no", "request_id": ID}, None),
        ({"detail": "no"}, "the error body lacks detail or request_id"),
        ({"request_id": ID}, "the error body lacks detail or request_id"),
        ({"detail": "no", "request_id": "other"}, "the error body lacks detail or request_id"),
        (["no"], "the error body lacks detail or request_id"),
        (None, "the error body is not JSON"),
    ],
)
def test_an_error_body_must_have_detail_and_the_id(body: object, problem: str | None) -> None:
    text = "Internal Server Error" if body is None else json.dumps(body)
    found = replace(evidence(), request=replace(REQUEST, status=500), response=Response(500, [ID], text, 0.01))
    if problem is None:
        assert failing(found) == {}
    else:
        assert failing(found)["error body"].startswith(problem)


def test_the_expected_trace_id_follows_from_the_request() -> None:
    assert expected_trace_id(REQUEST, ID) == TRACE
    assert expected_trace_id(replace(REQUEST, trace="new"), "order-42") is None
    caller = replace(REQUEST, trace="caller", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert expected_trace_id(caller, "a" * 32) == "a" * 32
