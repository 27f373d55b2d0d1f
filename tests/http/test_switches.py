"""Each carrier can be switched off by itself, and IDs are taken only from whom the settings trust."""

from __future__ import annotations

import inspect
import re

import httpx
import pytest
from fastapi import FastAPI

from otel_cc.local.sink import Sink
from tests.conftest import Launch
from tests.http.conftest import APP

SENT = {"X-Request-ID": "order-42", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
ORIGIN = {"Origin": "https://shop.example"}
NEW = re.compile("[0-9a-f]{32}")


def test_the_response_header_can_be_switched_off(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_CC_RESPONSE_HEADER_ENABLED": "false"})
    response = httpx.get(server.url + "/missing", headers={**SENT, **ORIGIN}, timeout=30)
    assert "x-request-id" not in response.headers
    assert "access-control-expose-headers" not in response.headers
    assert response.json()["request_id"] == "order-42"
    assert httpx.get(server.url + "/own-header", timeout=30).headers["x-request-id"] == "somebody-elses"


def test_the_error_body_can_be_switched_off(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_CC_ERROR_BODY_ENABLED": "false"})
    assert httpx.get(server.url + "/missing", headers=SENT, timeout=30).json() == {"detail": {"why": "no such thing"}}
    broken = httpx.get(server.url + "/unhandled", headers=SENT, timeout=30)
    assert (broken.text, broken.headers["x-request-id"]) == ("Internal Server Error", "order-42")
    # The exception is known to the span nevertheless.
    (span,) = sink.wait_spans(1, where=lambda span: span.name == "GET /unhandled")
    assert span.attributes["error.type"] == "ValueError"


def test_the_log_fields_can_be_switched_off(launch: Launch, sink: Sink) -> None:
    env = {"OTEL_CC_LOG_FIELDS_ENABLED": "false", "OTEL_CC_LOG_FORMAT": "json"}
    server = launch.uvicorn(files=APP, env=env)
    httpx.get(server.url + "/sync/1", headers=SENT, timeout=30)
    server.process.stop()
    assert "order-42" not in server.process.output()


def test_the_status_file_can_be_switched_off(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_CC_STATUS_DIR": "off"})
    assert httpx.get(server.url + "/ok", timeout=30).status_code == 200
    assert not (launch.folder / "status").exists()
    assert not (launch.folder / "off").exists()


TRUST = {
    "always": True,
    "never": False,
    "127.0.0.0/8": True,
    "10.0.0.0/8, ::1": False,
}


@pytest.mark.parametrize("mode", ["own", "contrib"])
@pytest.mark.parametrize("trust", TRUST)
def test_ids_are_taken_from_trusted_clients_only(launch: Launch, sink: Sink, trust: str, mode: str) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_CC_TRUST_INBOUND": trust, "OTEL_CC_INSTRUMENTATION": mode})
    found = httpx.get(server.url + "/headers", headers=SENT, timeout=30)
    request_id = found.headers["x-request-id"]
    (span,) = sink.wait_spans(1, where=lambda span: span.kind == "SERVER")
    assert found.json()["seen"] == [request_id]
    if TRUST[trust]:
        assert (request_id, span.trace_id, span.parent_id) == (
            "order-42",
            SENT["traceparent"].split("-")[1],
            SENT["traceparent"].split("-")[2],
        )
    else:
        assert NEW.fullmatch(request_id)
        assert (span.trace_id, span.parent_id) == (request_id, None)


NATIVE = """
from fastapi import FastAPI

app = FastAPI({options})


@app.get("/items/{{number}}")
async def item(number: int) -> int:
    return number
"""


def test_fastapis_own_telemetry_is_off_where_ours_is_on(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files={"app.py": NATIVE.format(options="")})
    trace_id = httpx.get(server.url + "/items/7", timeout=30).headers["x-request-id"]
    server.process.stop()
    assert [(span.scope, span.trace_id) for span in sink.spans()] == [("otel_cc.http", trace_id)]


def test_fastapis_own_telemetry_is_used_where_the_application_asks_for_it(launch: Launch, sink: Sink) -> None:
    options = 'telemetry={"tracing": True, "operation_spans": False}'
    server = launch.uvicorn(files={"app.py": NATIVE.format(options=options)})
    response = httpx.get(server.url + "/items/7", headers={"X-Request-ID": "order-42"}, timeout=30)
    server.process.stop()
    assert response.headers["x-request-id"] == "order-42"
    # FastAPI before 0.142 has none; it takes the argument as one more of the extras that it keeps.
    scope = "fastapi" if "telemetry" in inspect.signature(FastAPI).parameters else "otel_cc.http"
    assert [(span.scope, span.attributes["request.id"]) for span in sink.spans()] == [(scope, "order-42")]


def test_headers_are_captured_where_the_standard_variables_ask_for_them(launch: Launch, sink: Sink) -> None:
    env = {
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-tenant,authorization",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": "x-extra",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": "authorization",
    }
    server = launch.uvicorn(files=APP, env=env)
    httpx.get(server.url + "/missing", headers={"X-Tenant": "seven", "Authorization": "Bearer secret"}, timeout=30)
    (span,) = sink.wait_spans(1)
    captured = {name: value for name, value in span.attributes.items() if ".header." in name}
    assert captured == {
        "http.request.header.x_tenant": ["seven"],
        "http.request.header.authorization": ["[REDACTED]"],
        "http.response.header.x_extra": ["kept"],
    }
