"""How a request ended: which exception it was, whether the client had gone away, and what of it is an error."""

from __future__ import annotations

import asyncio

# error.type of a request whose client went away; the convention leaves such names to the instrumentation.
CLIENT_DISCONNECTED = "client_disconnected"
NO_RESPONSE = "no_response"
INCOMPLETE_RESPONSE = "incomplete_response"

# What Starlette raises when the client goes away, and uvicorn from the send of a WebSocket.
_DISCONNECTS = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})
# What a framework turns into an answer to the client: an error of the request, whatever its status.
_ANSWERS = frozenset(
    {"HTTPException", "RequestValidationError", "WebSocketException", "WebSocketRequestValidationError"}
)
_FRAMEWORKS = ("starlette", "fastapi")


def the_one(error: BaseException) -> BaseException:
    """The exception in a group of one, which is how a task group raises what its only task raised."""
    for _ in range(8):
        members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
        if len(members) != 1:
            break
        error = members[0]
    return error


def is_disconnect(error: BaseException, gone: bool, broken: BaseException | None) -> bool:
    """Whether an exception only says that the client went away.

    :param gone: whether the client is known to have gone
    :param broken: the exception of a send that failed
    """
    cause: BaseException | None = error
    for _ in range(4):
        if cause is None:
            break
        if cause is broken or _named(type(cause), _DISCONNECTS, (*_FRAMEWORKS, "uvicorn")):
            return True
        cause = cause.__cause__
    if not gone:
        return False
    # Servers cancel what nobody waits for any more; and Starlette's BaseHTTPMiddleware complains of a response that
    # an application had no reason to make.
    return isinstance(error, asyncio.CancelledError) or (
        isinstance(error, RuntimeError) and error.args == ("No response returned.",)
    )


def is_answer(error: BaseException) -> bool:
    """Whether an exception is one that the framework turns into an answer: HTTPException, a validation error."""
    return _named(type(error), _ANSWERS, _FRAMEWORKS)


def _named(kind: type[BaseException], names: frozenset[str], packages: tuple[str, ...]) -> bool:
    """Whether a class is, or is derived from, one of these; by name, so that no framework is imported."""
    return any(base.__name__ in names and base.__module__.split(".")[0] in packages for base in kind.__mro__)
