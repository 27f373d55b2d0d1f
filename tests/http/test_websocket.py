"""A WebSocket connection is measured once: how long it was open, who closed it with which code, and how it failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocketDisconnect
from websockets.frames import CloseCode

from otel_cc.http import errors
from otel_cc.metrics import bounds
from otel_cc.metrics.catalogue import BOUNDS
from tests.http.measured import Client, Measured

ACCEPT = {"type": "websocket.accept"}


def close(code: int = 1000) -> dict[str, Any]:
    return {"type": "websocket.close", "code": code}


def leaves(code: int) -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code}


class Route:
    path_format = "/ws/{room}"


async def chat(measured: Measured, app: Callable[..., Any], *messages: dict[str, Any], **scope: Any) -> None:
    try:
        await measured(app, Client(*messages), type="websocket", scheme="ws", route=Route(), **scope)
    except (ValueError, WebSocketDisconnect, ConnectionResetError, asyncio.CancelledError):
        pass


def sends(*messages: dict[str, Any], then: BaseException | None = None) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def takes(*messages: dict[str, Any], then: BaseException | None = None) -> Callable[..., Any]:
    """Accept, take what the client sends, and go on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await receive()
        await sends(*messages, then=then)(scope, receive, send)

    return app


def notes(error: Exception, *messages: dict[str, Any]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        errors.note(scope, error)
        await sends(*messages)(scope, receive, send)

    return app


DENIAL = [{"type": "websocket.http.response.start", "status": 503}, {"type": "websocket.http.response.body"}]
ROUTE = "/ws/{room}"
WS_EXCEPTION = "starlette.exceptions.WebSocketException"
CANCELLED = "asyncio.exceptions.CancelledError"
# What happens: what the client sends; code and error.type; what is counted as an error.
CHATS: dict[str, tuple[Callable[..., Any], list[dict[str, Any]], tuple[Any, ...], dict[tuple[Any, ...], int]]] = {
    "closed by the application": (sends(ACCEPT, close()), [], ("1000", None), {}),
    "closed with a code of its own": (sends(ACCEPT, close(4001)), [], ("4001", None), {}),
    "closed because of an error": (sends(ACCEPT, close(1011)), [], ("1011", "1011"), {(ROUTE, 101, "1011"): 1}),
    "closed by the client": (takes(), [leaves(1001)], ("1001", None), {}),
    "closed with a member of an enum": (sends(ACCEPT, close(CloseCode.GOING_AWAY)), [], ("1001", None), {}),
    "closed by the client with a code of its own": (takes(), [leaves(4001)], ("_OTHER", None), {}),
    "closed by the client because of an error": (takes(), [leaves(1011)], ("1011", None), {}),
    "lost": (takes(then=WebSocketDisconnect(1006)), [leaves(1006)], ("1006", None), {}),
    "closed by both, the client first": (takes(close(1000)), [leaves(1001)], ("1001", None), {}),
    "left open": (sends(ACCEPT), [], ("1006", None), {}),
    "refused": (sends(close(4003)), [], (None, None), {}),
    "refused with a response": (sends(*DENIAL), [], (None, "503"), {(ROUTE, 503, "503"): 1}),
    "crashed": (sends(ACCEPT, then=ValueError()), [], ("1006", "ValueError"), {(ROUTE, 101, "ValueError"): 1}),
    "crashed early": (sends(then=ValueError()), [], (None, "ValueError"), {(ROUTE, 500, "ValueError"): 1}),
    "no answer": (sends(), [], (None, "no_response"), {(ROUTE, 500, "no_response"): 1}),
    "a policy": (
        notes(WebSocketException(1008), ACCEPT, close(1008)), [], ("1008", None), {(ROUTE, 101, WS_EXCEPTION): 1},
    ),
    "handled as an error": (
        notes(ValueError(), ACCEPT, close(1011)), [], ("1011", "ValueError"), {(ROUTE, 101, "ValueError"): 1},
    ),
    "cancelled": (
        sends(ACCEPT, then=asyncio.CancelledError()), [], ("1006", CANCELLED), {(ROUTE, 101, CANCELLED): 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHATS)
def test_a_connection_is_measured_once(measured: Measured, case: str) -> None:
    app, messages, outcome, counted = CHATS[case]
    asyncio.run(chat(measured, app, *messages))
    assert measured.counts(
        "websocket.server.connection.duration", "url.scheme", "http.route", "websocket.close_code", "error.type"
    ) == {("ws", ROUTE, *outcome): 1}
    assert measured.errors() == counted
    accepted = case not in ("refused", "refused with a response", "crashed early", "no answer")
    assert measured.points("websocket.server.active_connections") == ([({"url.scheme": "ws"}, 0)] if accepted else [])
    for name in ("request.duration", "active_requests", "request.body.size", "disconnects"):
        assert measured.points(f"http.server.{name}") == []
    (span,) = measured.spans()
    failed = StatusCode.UNSET if outcome[1] is None else StatusCode.ERROR
    assert (span.status.status_code, (span.attributes or {}).get("error.type")) == (failed, outcome[1])


def test_a_connection_is_open_until_it_is_closed(measured: Measured) -> None:
    closed: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        opened = measured.measures.connections
        assert len(opened) == 0
        await send(ACCEPT)
        assert measured.points("websocket.server.active_connections") == [({"url.scheme": "ws"}, 1)]
        await send(close())
        closed.append(time.perf_counter())
        assert len(opened) == 0
        # Its duration has ended, too.
        await asyncio.sleep(0.3)

    began = time.perf_counter()
    asyncio.run(chat(measured, app))
    ((_, (_, seconds)),) = measured.points("websocket.server.connection.duration")
    assert seconds < closed[0] - began


def test_a_send_that_fails_says_that_the_connection_is_lost(measured: Measured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        client.breaks = ConnectionResetError()
        await send({"type": "websocket.send", "text": "x"})

    client = Client()

    async def run() -> None:
        with pytest.raises(ConnectionResetError):
            await measured(app, client, type="websocket", scheme="ws")

    asyncio.run(run())
    labels = ("websocket.close_code", "error.type")
    assert measured.counts("websocket.server.connection.duration", *labels) == {("1006", None): 1}
    assert measured.errors() == {}


def test_codes_are_bounded(measured: Measured) -> None:
    bounds._seen.clear()

    async def run() -> None:
        for code in range(1000, 5000):
            await chat(measured, takes(), leaves(code))
            await chat(measured, sends(ACCEPT, close(code)))

    try:
        asyncio.run(run())
        found = measured.counts("websocket.server.connection.duration", "websocket.close_code")
        assert sum(found.values()) == 8000
        assert len(found) == BOUNDS["websocket.close_code"]
        assert {("1000",), ("1015",), ("3008",), ("_OTHER",)} <= set(found)
    finally:
        bounds._seen.clear()
