"""The request ID on every response and in every error body, whoever makes the spans."""

from __future__ import annotations

import json
import re

import pytest
from websockets.sync.client import connect

from tests.http.conftest import Service

UUID = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
ORIGIN = {"Origin": "https://shop.example"}

RESPONSES = {
    "a 200": ("GET", "/ok", 200),
    "a 404 of the router": ("GET", "/nowhere", 404),
    "a 405": ("DELETE", "/ok", 405),
    "a validation error": ("POST", "/items", 422),
    "an HTTPException": ("GET", "/missing", 404),
    "an HTTPException without a body": ("GET", "/empty", 304),
    "an error that the application handles": ("GET", "/handled/500", 500),
    "an unhandled error": ("GET", "/unhandled", 500),
    "a stream": ("GET", "/stream", 200),
    "a mounted application": ("GET", "/tenants/7/items/3", 200),
    "an unhandled error of a mounted application": ("GET", "/tenants/7/boom", 500),
    "a mounted route": ("GET", "/plain/x", 200),
    "an excluded URL": ("GET", "/health", 200),
    "a response object that is sent twice": ("GET", "/reused", 200),
    "a response that has the header already": ("GET", "/own-header", 200),
    "a response with a background task": ("GET", "/background", 200),
    "the OpenAPI document": ("GET", "/openapi.json", 200),
}


@pytest.mark.parametrize("case", RESPONSES)
def test_the_id_is_in_the_response_header_exactly_once(service: Service, case: str) -> None:
    method, path, status = RESPONSES[case]
    for _ in range(2):
        response = service.client.request(method, path, headers={"X-Request-ID": UUID})
        assert (response.status_code, response.headers.get_list("x-request-id")) == (status, [UUID])


BODIES = {
    "/nowhere": {"detail": "Not Found"},
    "/missing": {"detail": {"why": "no such thing"}},
    "/unavailable": {"detail": "later"},
    "/unhandled": {"detail": "Internal Server Error"},
    "/tenants/7/boom": {"detail": "Internal Server Error"},
    "/tenants/7/nowhere": {"detail": "Not Found"},
}


@pytest.mark.parametrize("path", BODIES)
def test_an_error_body_of_fastapi_keeps_its_detail_and_gets_the_id(service: Service, path: str) -> None:
    response = service.get(path, headers={"X-Request-ID": "order-42"})
    assert response.json() == {**BODIES[path], "request_id": "order-42"}
    assert int(response.headers["content-length"]) == len(response.content)


def test_a_validation_error_keeps_its_detail_byte_for_byte(service: Service) -> None:
    response = service.client.post("/items", json={}, headers={"X-Request-ID": "order-42"})
    detail = [{"type": "missing", "loc": ["body", "name"], "msg": "Field required", "input": {}}]
    assert response.content == (
        b'{"detail":' + json.dumps(detail, separators=(",", ":")).encode() + b',"request_id":"order-42"}'
    )


def test_headers_of_an_http_exception_are_kept(service: Service) -> None:
    assert service.get("/missing").headers["x-extra"] == "kept"


@pytest.mark.parametrize("status", [400, 500])
def test_a_handler_of_the_applications_own_is_not_altered(service: Service, status: int) -> None:
    assert service.get(f"/handled/{status}").content == b'{"mine":"%d"}' % status


def test_without_an_incoming_id_the_request_id_is_a_new_trace_id(service: Service) -> None:
    first, second = (service.get("/ok").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert re.fullmatch("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", first)


def test_an_incoming_traceparent_alone_gives_the_request_its_id(service: Service) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = service.get("/ok", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    assert response.headers["x-request-id"] == trace_id


def test_the_application_reads_the_same_id_from_its_request(service: Service) -> None:
    given = service.get("/headers", headers={"X-Request-ID": "order-42"})
    made = service.get("/headers")
    replaced = service.get("/headers", headers={"X-Request-ID": "two words"})
    assert given.json()["seen"] == ["order-42"]
    assert made.json()["seen"] == [made.headers["x-request-id"]]
    assert replaced.json()["seen"] == [replaced.headers["x-request-id"]] != ["two words"]


def test_of_two_ids_the_first_counts(service: Service) -> None:
    request = service.client.build_request(
        "GET", "/ok", headers=[("X-Request-ID", "first"), ("X-Request-ID", "second")]
    )
    assert service.client.send(request).headers.get_list("x-request-id") == ["first"]


HOSTILE = [
    "x */ DROP TABLE users; --",
    "'; DROP TABLE users; --",
    "../../etc/passwd%0d%0aSet-Cookie:a=b",
    "a" * 129,
    "a" * 10_000,
    "caf\u00e9",
    "\u0130D-1",
    "a\tb",
    "-starts-with-a-dash",
    "",
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_id_is_replaced_and_the_request_served(service: Service, value: str) -> None:
    response = service.get("/ok", headers=[(b"X-Request-ID", value.encode())])
    assert response.status_code == 200
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_websocket_handshake_carries_the_id(service: Service) -> None:
    url = service.url.replace("http", "ws") + "/ws/1"
    with connect(url, additional_headers={"X-Request-ID": UUID}) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        assert websocket.response.headers.get_all("x-request-id") == [UUID]


def test_a_browser_may_read_the_id(service: Service) -> None:
    response = service.get("/ok", headers=ORIGIN)
    assert response.headers["access-control-expose-headers"] == "X-Request-ID"


def test_a_browser_may_read_an_unhandled_error(service: Service) -> None:
    response = service.get("/unhandled", headers=ORIGIN)
    assert response.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert response.headers["access-control-expose-headers"] == "X-Request-ID"
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_a_browser_may_send_the_id(service: Service) -> None:
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-request-id"}
    response = service.client.options("/ok", headers={**ORIGIN, **asks})
    assert response.status_code == 200
    assert "X-Request-ID" in response.headers["access-control-allow-headers"]
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_another_origin_is_still_refused(service: Service) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    assert service.client.options("/ok", headers=asks).status_code == 400
    assert (
        "access-control-allow-origin"
        not in service.get("/unhandled", headers={"Origin": "https://evil.example"}).headers
    )
