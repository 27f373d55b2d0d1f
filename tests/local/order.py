"""The evidence of one request as the demo finds it when everything works, written out by hand."""

from __future__ import annotations

import json

from otel_cc.local.application import API, WORKER
from otel_cc.local.evidence import HEADER, Evidence, LogLine, Request, Response
from otel_cc.local.postgres import Statement
from otel_cc.local.signals import Span

ID = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
TRACE = ID.replace("-", "")


def span(name: str, kind: str, service: str, number: int, parent: int | None, **attributes: object) -> Span:
    """A span of the trace; IDs are small numbers, times are milliseconds after one another."""
    return Span(
        name=name,
        kind=kind,
        trace_id=TRACE,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        start=number * 1_000_000,
        end=(number + 2) * 1_000_000,
        attributes={"request.id": ID, **attributes},
        resource={"service.name": service},
    )


def statement(application: str, sql: str, number: int, where: str) -> Statement:
    """A statement with its comment."""
    comment = f"/*request_id='{ID}',{where},traceparent='00-{TRACE}-{number:016x}-01'*/"
    return Statement("2026-11-25 13:34:22.931 UTC", 11, application, f"{sql} {comment}", "")


REQUEST = Request(
    "an [bold]order[/bold]", "POST", "/orders", 201, {"customer": "ada"}, {HEADER: ID}, runs=1, sql=(API, WORKER)
)


def evidence() -> Evidence:
    """All that was found."""
    database = {"db.system.name": "postgresql"}
    return Evidence(
        request=REQUEST,
        response=Response(201, [ID], json.dumps({"id": 1}), 0.0123),
        request_id=ID,
        spans=[
            span("POST /orders", "SERVER", API, 1, None, **{"http.response.status_code": 201}),
            span("INSERT shop", "CLIENT", API, 2, 1, **database),
            span("publish shop.invoice", "PRODUCER", API, 3, 1),
            span("run shop.invoice", "CONSUMER", WORKER, 4, 3),
            span("UPDATE shop", "CLIENT", WORKER, 5, 4, **database),
        ],
        statements=[
            statement(API, "INSERT INTO orders\n (customer)\tVALUES ($1)", 2, "route='%2Forders'"),
            statement(WORKER, "UPDATE orders SET status=$1", 5, "task='shop.invoice'"),
        ],
        lines=[
            LogLine(
                API, {"level": "INFO", "message": "order 1 [red]placed[/red]", "request_id": ID, "trace_id": TRACE}
            ),
            LogLine(
                WORKER,
                {
                    "level": "ERROR",
                    "message": "failed\n",
                    "exception": {"type": "KeyError", "message": "'tea'"},
                    "request_id": ID,
                    "trace_id": TRACE,
                },
            ),
        ],
    )
