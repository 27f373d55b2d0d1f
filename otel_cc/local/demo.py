"""The demo: sends requests to the shop and collects, for each, what every hop of the data path knows of its ID.

What is compared was written by others than us where possible: the response as the client got it, the spans as they
arrived over OTLP, the SQL comment as PostgreSQL logged it, the log lines as the two processes wrote them.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from otel_cc.local.application import API, WORKER, Shop
from otel_cc.local.otlp import Span
from otel_cc.local.postgres import Statement
from otel_cc.local.process import Processes

HEADER = "X-Request-ID"
ATTRIBUTE = "request.id"

# How long spans and log lines of a finished request may take to arrive, in seconds.
ARRIVAL = 20.0


@dataclass(frozen=True)
class Request:
    """One request of the demo and what is expected of it.

    :param title: what it shows
    :param status: the expected status
    :param runs: how often the worker runs a task for it (a retry is one more run)
    :param sql: which services send SQL for it
    :param trace: "id" when the request ID is the trace ID, "caller" when a traceparent brought it, "new" when it is
        independent of the ID
    """

    title: str
    method: str
    path: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    sql: tuple[str, ...] = ()
    trace: str = "id"


@dataclass(frozen=True)
class Response:
    """What the client got; ``ids`` are all request ID headers, ``seconds`` the time until the last byte."""

    status: int
    ids: list[str]
    body: str
    seconds: float


@dataclass(frozen=True)
class LogLine:
    """One JSON line that a process of the shop wrote."""

    service: str
    fields: dict[str, Any]

    @property
    def level(self) -> str:
        """The level in capitals."""
        return str(self.fields.get("level") or "").upper()

    @property
    def message(self) -> str:
        """The text."""
        return str(self.fields.get("message") or "")

    @property
    def exception(self) -> str:
        """Type and text of the exception that was logged, if any."""
        exception = self.fields.get("exception")
        return f"{exception.get('type')}: {exception.get('message')}" if isinstance(exception, dict) else ""


@dataclass(frozen=True)
class Check:
    """One thing that must hold; ``problem`` says what was found instead, empty when it holds."""

    name: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.problem


@dataclass(frozen=True)
class Journey:
    """Everything that was found about one request."""

    request: Request
    response: Response
    request_id: str
    trace_id: str
    spans: list[Span]
    statements: list[Statement]
    lines: list[LogLine]
    checks: list[Check]


def requests() -> list[Request]:
    """The requests, in the order in which they are sent."""
    tea = {"customer": "ada", "lines": [{"article": "tea", "quantity": 2}, {"article": "mug", "quantity": 1}]}
    trace_id, span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return [
        Request("an order, with a UUID of the caller", "POST", "/orders", 201, tea,
                {HEADER: str(uuid.uuid4())}, runs=1, sql=(API, WORKER)),
        Request("an order, with an ID in the caller's own form", "POST", "/orders", 201, {**tea, "customer": "grace"},
                {HEADER: "order-42"}, runs=1, sql=(API, WORKER), trace="new"),
        Request("no ID: one is made", "GET", "/orders", 200, sql=(API,)),
        Request("a payment whose task has to be retried", "POST", "/orders/1/payment", 202, None,
                {HEADER: str(uuid.uuid4())}, runs=2, sql=(API, WORKER)),
        Request("an order that is not valid", "POST", "/orders", 422,
                {"customer": "ada", "lines": [{"article": "tea", "quantity": 0}]}, {HEADER: "checkout/7"}, trace="new"),
        Request("an order that does not exist, with a traceparent of the caller", "GET", "/orders/4711", 404, None,
                {"traceparent": f"00-{trace_id}-{span_id}-01"}, sql=(API,), trace="caller"),
        Request("a bug in the application", "GET", "/customers/nobody/average", 500, None,
                {HEADER: uuid.uuid4().hex}, sql=(API,)),
    ]  # fmt: skip


def run(shop: Shop, processes: Processes, progress: Callable[[str], None] = lambda _text: None) -> list[Journey]:
    """Send every request, wait for its traces, and collect what each hop knows."""
    sent = []
    asked = requests()
    progress(f"sending {len(asked)} requests")
    for request in asked:
        processes.check()
        # The payment is for the first order, which must be invoiced by then: one worker works in order.
        sent.append((request, send(shop.port, request)))
    progress("collecting spans, statements and log lines")
    return [_collect(shop, processes, request, response) for request, response in sent]


def send(port: int, request: Request) -> Response:
    """Send one request with a client that no instrumentation touches."""
    headers = dict(request.headers)
    payload = None
    if request.body is not None:
        payload = json.dumps(request.body)
        headers["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    start = time.perf_counter()
    try:
        connection.request(request.method, request.path, payload, headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        seconds = time.perf_counter() - start
        return Response(answer.status, answer.headers.get_all(HEADER) or [], body, seconds)
    finally:
        connection.close()


def _collect(shop: Shop, processes: Processes, request: Request, response: Response) -> Journey:
    request_id = response.ids[0] if response.ids else request.headers.get(HEADER, "")
    trace_id = _expected_trace_id(request, request_id)

    def belongs(span: Span) -> bool:
        return span.trace_id == trace_id if trace_id else span.attributes.get(ATTRIBUTE) == request_id

    def complete() -> bool:
        spans = shop.sink.spans(belongs)
        served = sum(span.kind == "SERVER" and span.service == API for span in spans)
        ran = sum(span.kind == "CONSUMER" and span.service == WORKER for span in spans)
        return served >= 1 and ran >= request.runs and len(_lines(shop, request_id)) >= 1

    deadline = time.monotonic() + ARRIVAL
    while not complete() and time.monotonic() < deadline and shop.ended() is None:
        processes.check()
        time.sleep(0.05)

    spans = sorted(shop.sink.spans(belongs), key=lambda span: span.start)
    statements = [s for s in shop.database.statements() if comment_of(s.sql).get("request_id") == request_id]
    lines = _lines(shop, request_id)
    checks = _check(request, response, request_id, spans, statements, lines)
    return Journey(
        request, response, request_id, trace_id or _one([s.trace_id for s in spans]), spans, statements, lines, checks
    )


def _expected_trace_id(request: Request, request_id: str) -> str | None:
    if request.trace == "caller":
        return request.headers["traceparent"].split("-")[1]
    return request_id.replace("-", "").lower() if request.trace == "id" else None


def comment_of(sql: str) -> dict[str, str]:
    """The key-value pairs of the last comment of a statement, decoded; empty when it has none."""
    comments = re.findall(r"/\*(.*?)\*/", sql, re.DOTALL)
    pairs = re.findall(r"([\w%.-]+)='((?:[^'\\]|\\.)*)'", comments[-1]) if comments else []
    return {unquote(key): unquote(value) for key, value in pairs}


def _lines(shop: Shop, request_id: str) -> list[LogLine]:
    found = []
    for service, process in ((API, shop.api), (WORKER, shop.worker)):
        for text in process.output().splitlines():
            # Cheap first: most lines belong to other requests.
            if request_id in text and text.startswith("{"):
                try:
                    fields = json.loads(text)
                except ValueError:
                    continue
                if fields.get("request_id") == request_id:
                    found.append(LogLine(service, fields))
    return found


def _check(
    request: Request,
    response: Response,
    request_id: str,
    spans: list[Span],
    statements: list[Statement],
    lines: list[LogLine],
) -> list[Check]:
    checks = [_status(request, response), _header(request, response)]
    if response.status >= 400:
        checks.append(_error_body(response, request_id))
    checks.append(_trace(request, request_id, spans))
    if request.runs:
        checks.append(_worker(request, spans))
    if request.sql:
        checks.append(_sql(request, request_id, spans, statements))
    checks.append(_logs(request, lines))
    return checks


def _status(request: Request, response: Response) -> Check:
    good = response.status == request.status
    return Check(
        "status", "" if good else f"the status is {response.status} instead of {request.status}: {response.body[:200]}"
    )


def _header(request: Request, response: Response) -> Check:
    given = request.headers.get(HEADER)
    if len(response.ids) != 1:
        return Check("response header", f"the response has {len(response.ids)} {HEADER} headers instead of one")
    if given is not None and response.ids != [given]:
        return Check("response header", f"the response has {response.ids[0]} instead of {given}")
    return Check("response header")


def _error_body(response: Response, request_id: str) -> Check:
    try:
        body = json.loads(response.body)
    except ValueError:
        return Check("error body", f"the error body is not JSON: {response.body[:80]}")
    if not isinstance(body, dict) or body.get("request_id") != request_id or "detail" not in body:
        return Check("error body", f"the error body lacks detail or request_id: {response.body[:200]}")
    return Check("error body")


def _trace(request: Request, request_id: str, spans: list[Span]) -> Check:
    traces = {span.trace_id for span in spans}
    servers = [span for span in spans if span.kind == "SERVER" and span.service == API]
    strangers = [span.name for span in spans if span.attributes.get(ATTRIBUTE) != request_id]
    if len(traces) != 1:
        return Check("trace", f"its spans are in {len(traces)} traces instead of one")
    if len(servers) != 1:
        return Check("trace", f"the API has {len(servers)} server spans for it instead of one")
    if strangers:
        return Check("trace", f"spans without this {ATTRIBUTE}: {', '.join(strangers)}")
    if request.trace == "new" and not re.fullmatch("[0-9a-f]{32}", servers[0].trace_id):
        return Check("trace", f"{servers[0].trace_id} is not a trace ID")
    known = {span.span_id for span in spans}
    orphans = [span.name for span in spans if span.parent_id not in known and span is not servers[0]]
    return Check("trace", f"spans whose parent is missing: {', '.join(orphans)}" if orphans else "")


def _worker(request: Request, spans: list[Span]) -> Check:
    runs = [span for span in spans if span.kind == "CONSUMER" and span.service == WORKER]
    good = len(runs) == request.runs
    return Check(
        "worker", "" if good else f"the worker has {len(runs)} runs of the task in this trace instead of {request.runs}"
    )


def _sql(request: Request, request_id: str, spans: list[Span], statements: list[Statement]) -> Check:
    clients = {statement.application for statement in statements}
    if missing := [service for service in request.sql if service not in clients]:
        return Check("PostgreSQL log", f"PostgreSQL logged no statement of {' and '.join(missing)} with {request_id}")
    made = sum(span.kind == "CLIENT" and any(key.startswith("db.") for key in span.attributes) for span in spans)
    if made != len(statements):
        return Check(
            "PostgreSQL log", f"PostgreSQL logged {len(statements)} statements with this ID, and {made} spans say so"
        )
    trace = _one([span.trace_id for span in spans])
    for statement in statements:
        if trace not in comment_of(statement.sql).get("traceparent", ""):
            return Check("PostgreSQL log", f"a comment names another trace: {statement.sql[-200:]}")
    return Check("PostgreSQL log")


def _logs(request: Request, lines: list[LogLine]) -> Check:
    wanted = {API, WORKER} if request.runs else {API}
    missing = sorted(wanted - {line.service for line in lines})
    return Check("log lines", f"no log line of {' and '.join(missing)} has this ID" if missing else "")


def _one(values: list[str]) -> str:
    return values[0] if values else ""
