"""Which exceptions only say that the client went away, and which are answers of the framework."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.exceptions import WebSocketException
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from otel_cc.http.outcome import is_answer, is_disconnect, the_one


class Forbidden(HTTPException):
    pass


ANSWERS = {
    HTTPException(404): True,
    StarletteHTTPException(404): True,
    Forbidden(403): True,
    RequestValidationError([]): True,
    WebSocketException(1008): True,
    WebSocketRequestValidationError([]): True,
    ValueError(): False,
    WebSocketDisconnect(): False,
}


@pytest.mark.parametrize("error", ANSWERS, ids=lambda error: type(error).__name__)
def test_answers_of_the_framework(error: BaseException) -> None:
    assert is_answer(error) == ANSWERS[error]


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


SEND = ConnectionResetError()
# Whether it is a disconnect when nobody saw the client go, and when it is known to have gone.
DISCONNECTS = {
    "Starlette's": (ClientDisconnect(), True, True),
    "uvicorn's": (ClientDisconnected(), True, True),
    "a WebSocket's": (WebSocketDisconnect(1001), True, True),
    "a failed send": (SEND, True, True),
    "another failed connection": (ConnectionResetError(), False, False),
    "what FastAPI makes of a body that ends": (caused(HTTPException(400), ClientDisconnect()), True, True),
    "cancelled": (asyncio.CancelledError(), False, True),
    "BaseHTTPMiddleware's": (RuntimeError("No response returned."), False, True),
    "an error of the application": (ValueError(), False, False),
    "one of the same name": (type("ClientDisconnect", (Exception,), {})(), False, False),
}


@pytest.mark.parametrize("case", DISCONNECTS)
def test_what_a_disconnect_is(case: str) -> None:
    error, alone, gone = DISCONNECTS[case]
    assert (is_disconnect(error, False, SEND), is_disconnect(error, True, SEND)) == (alone, gone)


class Group(Exception):
    def __init__(self, *members: BaseException) -> None:
        self.exceptions = members


def test_a_group_of_one_is_that_one() -> None:
    error = ValueError()
    assert the_one(Group(Group(error))) is error
    two = Group(error, error)
    assert the_one(two) is two
