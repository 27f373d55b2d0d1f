"""The demo: sends requests to the shop and collects, for each, what every hop of the data path knows of its ID."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable, Iterator

from otel_cc.local import sql_comment
from otel_cc.local.application import API, WORKER, Shop
from otel_cc.local.backend import Backend
from otel_cc.local.evidence import HEADER, Evidence, LogLine, Request, Response, expected_trace_id
from otel_cc.local.process import Processes

# How long spans and log lines of a finished request may take to arrive, in seconds.
ARRIVAL = 30.0


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


def run(
    shop: Shop, backend: Backend, processes: Processes, progress: Callable[[str], None] = lambda _text: None
) -> list[Evidence]:
    """Send every request, wait for its traces, and collect what each hop knows.

    :param backend: where the telemetry of the shop arrives
    """
    sent = []
    asked = requests()
    progress(f"sending {len(asked)} requests")
    for request in asked:
        processes.check()
        # The payment is for the first order, which must be invoiced by then: one worker works in order.
        sent.append((request, send(shop.port, request)))
    progress("collecting spans, statements and log lines")
    return [_collect(shop, backend, processes, request, response) for request, response in sent]


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


def _collect(shop: Shop, backend: Backend, processes: Processes, request: Request, response: Response) -> Evidence:
    request_id = response.ids[0] if response.ids else request.headers.get(HEADER, "")
    trace_id = expected_trace_id(request, request_id)

    def complete() -> bool:
        spans = backend.spans(trace_id, request_id)
        served = any(span.kind == "SERVER" and span.service == API for span in spans)
        ran = sum(span.kind == "CONSUMER" and span.service == WORKER for span in spans)
        return served and ran >= request.runs and bool(_lines(shop, request_id))

    deadline = time.monotonic() + ARRIVAL
    while not complete() and time.monotonic() < deadline and shop.ended() is None:
        processes.check()
        time.sleep(0.05)
    return Evidence(
        request,
        response,
        request_id,
        spans=sorted(backend.spans(trace_id, request_id), key=lambda span: span.start),
        statements=[s for s in shop.database.statements() if sql_comment.pairs(s.sql).get("request_id") == request_id],
        lines=_lines(shop, request_id),
    )


def complaints(shop: Shop) -> list[LogLine]:
    """What otel-cc itself warned of in the two processes: where to look first when a check fails."""
    return [
        line
        for line in _json_lines(shop)
        if line.fields.get("logger") == "otel_cc" and line.level not in ("INFO", "DEBUG")
    ]


def _lines(shop: Shop, request_id: str) -> list[LogLine]:
    return [line for line in _json_lines(shop, request_id) if line.fields.get("request_id") == request_id]


def _json_lines(shop: Shop, containing: str = "") -> Iterator[LogLine]:
    for service, process in ((API, shop.api), (WORKER, shop.worker)):
        for text in process.output().splitlines():
            # Cheap first: most lines belong to other requests.
            if containing in text and text.startswith("{"):
                try:
                    yield LogLine(service, json.loads(text))
                except ValueError:
                    # A line that is being written.
                    continue
