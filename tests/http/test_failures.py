"""Telemetry that fails costs the request nothing: what the application says arrives, with the ID."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response

from otel_cc import guard, lifecycle
from otel_cc.http import carriers, errors, route
from tests.http.measured import END, START, Client, Measured, responds

ID = (b"x-request-id", b"order-42")
CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"


@pytest.fixture
def forgiving(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """As for users: a failure is only logged."""
    monkeypatch.delenv("OTEL_CC_STRICT")
    monkeypatch.setattr(guard, "_seen", set())
    return measured


def sends(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def takes(*answers: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await sends(*answers)(scope, receive, send)

    return app


@pytest.mark.parametrize("variable", ["SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS"])
def test_a_list_of_headers_that_is_no_pattern_is_said_once_and_captures_nothing(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    monkeypatch.setattr(guard, "_seen", set())
    monkeypatch.setenv(f"{CAPTURE}SERVER_RESPONSE", "x-extra")
    monkeypatch.setenv(f"{CAPTURE}{variable}", "*")
    measured.open()
    client = asyncio.run(measured(sends(*responds(200, b"x")), headers=[ID]))
    assert [message["type"] for message in client.answers] == [START["type"], END["type"], END["type"]]
    assert client.answers[0]["headers"] == [ID]
    said = [message for message in caplog.messages if message.startswith(CAPTURE)]
    assert len(said) == 1
    assert said[0].startswith(f"{CAPTURE}{variable} is not a list of regular expressions")
    assert len(measured.spans()) == 1


BEYOND_US = {
    "a status": (sends({**START, "status": "fine"}, END), None),
    "a body": (sends(START, {**END, "body": 5}), None),
    "a request body": (takes(START, END), {"type": "http.request", "body": 5}),
    "a message of a request": (takes(START, END), {}),
}


@pytest.mark.parametrize("case", BEYOND_US)
def test_what_we_do_not_understand_passes(forgiving: Measured, caplog: pytest.LogCaptureFixture, case: str) -> None:
    app, message = BEYOND_US[case]
    client = asyncio.run(forgiving(app, Client(*([] if message is None else [message])), headers=[ID]))
    assert len(client.answers) == 2
    assert client.answers[0]["headers"] == [ID]
    assert any("otel-cc failed in" in record.getMessage() for record in caplog.records)


def test_a_message_of_a_connection_that_we_do_not_understand_passes(
    forgiving: Measured, caplog: pytest.LogCaptureFixture
) -> None:
    accept = {"type": "websocket.accept", "headers": []}
    client = asyncio.run(forgiving(takes(accept), Client({}), type="websocket", headers=[ID]))
    assert client.answers == [{**accept, "headers": [ID]}]
    assert any("otel-cc failed in" in record.getMessage() for record in caplog.records)


def test_a_request_that_cannot_be_measured_keeps_its_id(forgiving: Measured) -> None:
    # A server that says nothing of the path: there is no span without it.
    async def serve() -> Client:
        client = Client()
        call = forgiving.entrance.wrap(lambda _, *asgi: sends(START, END)(*asgi))
        await call(object(), {"type": "http", "method": "GET", "headers": [ID]}, client.receive, client.send)
        return client

    assert asyncio.run(serve()).answers[0]["headers"] == [ID]
    assert forgiving.spans() == ()


def test_the_end_of_the_serving_is_told_to_the_server_whatever_happens(
    forgiving: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lifecycle, "stopped_serving", broken)
    complete = {"type": "lifespan.shutdown.complete"}
    assert asyncio.run(forgiving(sends(complete), type="lifespan")).answers == [complete]


def test_a_route_is_noted_where_fastapi_tells_more_than_today() -> None:
    told = []
    selected = route.route_selected(lambda **everything: told.append(everything))
    scope: dict[str, Any] = {}
    selected(scope=scope, path="/items/{number}", mount=False, since="0.999")
    assert told == [{"scope": scope, "path": "/items/{number}", "mount": False, "since": "0.999"}]
    assert route.template(scope) == "/items/{number}"


def test_a_request_goes_on_where_fastapi_tells_the_route_in_another_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OTEL_CC_STRICT", raising=False)
    monkeypatch.setattr(guard, "_seen", set())
    told = []
    route.route_selected(lambda *everything: told.append(everything))("/items/{number}", {})
    assert told == [("/items/{number}", {})]
    assert "the route of a request" in caplog.text


class Teapot:
    """A handler with settings of its own."""

    async def __call__(self, request: Any, error: Exception) -> Response:
        return Response(status_code=418)


@pytest.mark.parametrize("handler", [Teapot(), functools.partial(Teapot())], ids=["an object", "a part of one"])
def test_a_handler_of_any_kind_is_called_as_starlette_would(measured: Measured, handler: Any) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    app = ExceptionMiddleware(fails, handlers={ValueError: errors.noting(handler)})
    client = asyncio.run(measured(app))
    assert client.answers[0]["status"] == 418


def test_an_application_is_made_where_its_constructor_is_no_function() -> None:
    made: list[Any] = []

    def __init__(self: object, *, telemetry: Any = None) -> None:
        made.append(telemetry)

    carriers._with_native_telemetry_off(functools.partial(__init__))(object())
    assert made == [{"tracing": False, "metrics": False, "logs": False}]
