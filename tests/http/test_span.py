"""The SERVER span: one per request, whole, ending with the response."""

from __future__ import annotations

import time

import httpx
import pytest
from websockets.sync.client import connect

from otel_cc.local.process import wait_until
from otel_cc.local.signals import Span
from otel_cc.local.sink import Sink
from tests.conftest import Launch
from tests.http.conftest import Service

UUID = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
TRACE_ID = UUID.replace("-", "")


def spans(service: Service, request_id: str, count: int = 1) -> list[Span]:
    """All spans of one request; those that should not be there get time to arrive."""
    found = service.sink.wait_spans(count, where=lambda span: span.attributes.get("request.id") == request_id)
    time.sleep(0.3)
    assert len(service.sink.spans(lambda span: span.attributes.get("request.id") == request_id)) == count
    return found


def test_a_request_is_one_server_span_with_stable_attributes(own: Service) -> None:
    own.sink.clear()
    own.get("/sync/7?a=1&sig=secret", headers={"X-Request-ID": UUID, "User-Agent": "tester"})
    (span,) = spans(own, UUID)
    port = int(own.url.rsplit(":", 1)[1])
    assert (span.name, span.kind, span.trace_id, span.parent_id, span.status) == (
        "GET /sync/{number}", "SERVER", TRACE_ID, None, "UNSET",
    )  # fmt: skip
    assert span.attributes == {
        "url.scheme": "http",
        "url.path": "/sync/7",
        "url.query": "a=1&sig=REDACTED",
        "http.request.method": "GET",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "user_agent.original": "tester",
        "request.id": UUID,
        "http.route": "/sync/{number}",
        "http.response.status_code": 200,
    }
    assert span.scope == "otel_cc.http"


ROUTES = {
    "/ok": "GET /ok",
    "/outer/inner/5": "GET /outer/inner/{x}",
    "/tenants/7/items/3": "GET /tenants/{tenant}/items/{number}",
    "/tenants/7/nowhere": "GET /tenants/{tenant}",
    "/plain/x": "GET /plain/{leaf}",
    "/openapi.json": "GET /openapi.json",
    "/nowhere": "GET",
}


@pytest.mark.parametrize("path", ROUTES)
def test_a_span_is_named_by_the_full_route(own: Service, path: str) -> None:
    own.sink.clear()
    request_id = own.get(path).headers["x-request-id"]
    (span,) = spans(own, request_id)
    assert span.name == ROUTES[path]


ERRORS = {
    "/unhandled": (500, "ValueError"),
    "/tenants/7/boom": (500, "ValueError"),
    "/unavailable": (503, "fastapi.exceptions.HTTPException"),
    "/handled/500": (500, "app.Handled"),
}


@pytest.mark.parametrize("path", ERRORS)
def test_a_server_error_names_its_exception_class(own: Service, path: str) -> None:
    own.sink.clear()
    request_id = own.get(path).headers["x-request-id"]
    (span,) = spans(own, request_id)
    status, error_type = ERRORS[path]
    assert (span.status, span.attributes["http.response.status_code"], span.attributes["error.type"]) == (
        "ERROR", status, error_type,
    )  # fmt: skip
    assert [event.attributes["exception.type"] for event in span.events] == [error_type]


@pytest.mark.parametrize("path", ["/missing", "/nowhere", "/handled/400"])
def test_a_client_error_is_no_error_of_the_server(own: Service, path: str) -> None:
    own.sink.clear()
    request_id = own.get(path).headers["x-request-id"]
    (span,) = spans(own, request_id)
    assert (span.status, "error.type" in span.attributes, span.events) == ("UNSET", False, ())


def test_a_span_ends_with_the_last_chunk(own: Service) -> None:
    own.sink.clear()
    began = time.monotonic()
    request_id = own.get("/stream").headers["x-request-id"]
    took = time.monotonic() - began
    (span,) = spans(own, request_id)
    # The client may have it a little before the server knows.
    assert 0.14 < span.duration < took + 1


def test_a_span_does_not_wait_for_background_tasks(own: Service) -> None:
    own.sink.clear()
    # The fastest of some: a busy machine may hold any single one up.
    ids = [own.get("/background").headers["x-request-id"] for _ in range(5)]
    assert min(span.duration for request_id in ids for span in spans(own, request_id)) < 0.05
    own.sink.wait_metric(
        "http.server.request.duration", where=lambda p: p.attributes.get("http.route") == "/background"
    )
    (point,) = [
        p for p in own.sink.latest("http.server.request.duration") if p.attributes.get("http.route") == "/background"
    ]
    assert point.value / point.count < 0.5


BREAKS = """
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def breaks():
    async def chunks():
        yield b"one "
        raise KeyError("in the middle")

    return StreamingResponse(chunks())
"""


def test_a_broken_stream_carries_the_id_and_is_an_error(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files={"app.py": BREAKS})
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", server.url, timeout=30) as response:
        request_id = response.headers["x-request-id"]
        response.read()
    (span,) = sink.wait_spans(1)
    assert (span.trace_id, span.status, span.attributes["error.type"]) == (request_id, "ERROR", "KeyError")


def test_an_excluded_url_makes_no_span(own: Service) -> None:
    own.sink.clear()
    own.get("/health")
    request_id = own.get("/ok").headers["x-request-id"]
    spans(own, request_id)
    assert [span.name for span in own.sink.spans()] == ["GET /ok"]


def test_the_remote_parent_is_the_parent(own: Service) -> None:
    own.sink.clear()
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {
        "traceparent": f"00-{trace_id}-{parent_id}-01",
        "tracestate": "vendor=x,ot=th:8",
        "X-Request-ID": "order-42",
    }
    own.get("/ok", headers=headers)
    (span,) = spans(own, "order-42")
    assert (span.trace_id, span.parent_id, span.trace_state) == (trace_id, parent_id, "vendor=x,ot=th:8")


def test_a_free_form_id_does_not_merge_requests_into_one_trace(own: Service) -> None:
    own.sink.clear()
    for _ in range(2):
        own.get("/ok", headers={"X-Request-ID": "order-43"})
    first, second = spans(own, "order-43", 2)
    assert first.trace_id != second.trace_id


def test_an_unknown_method_is_one_bounded_value(own: Service) -> None:
    own.sink.clear()
    request_id = own.client.request("PROPFIND", "/ok").headers["x-request-id"]
    (span,) = spans(own, request_id)
    assert (span.name, span.attributes["http.request.method"], span.attributes["http.request.method_original"]) == (
        "HTTP /ok", "_OTHER", "PROPFIND",
    )  # fmt: skip


def test_a_websocket_is_one_span(own: Service) -> None:
    own.sink.clear()
    with connect(own.url.replace("http", "ws") + "/ws/1", additional_headers={"X-Request-ID": "socket-1"}) as websocket:
        websocket.send("hello")
        websocket.recv()
    (span,) = spans(own, "socket-1")
    assert (span.name, span.kind, span.status, span.attributes["network.protocol.name"]) == (
        "WS /ws/{room}", "SERVER", "UNSET", "websocket",
    )  # fmt: skip


def test_the_duration_leads_to_the_trace_by_an_exemplar(own: Service) -> None:
    own.sink.clear()
    trace_id = own.get("/outer/inner/1").headers["x-request-id"]

    def leads() -> bool:
        # Of all exports: each has the exemplars of its own interval only.
        points = own.sink.metrics().get("http.server.request.duration", [])
        return any(exemplar.trace_id == trace_id for point in points for exemplar in point.exemplars)

    wait_until(leads, 30, "the exemplar")
