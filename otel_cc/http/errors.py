"""The request ID in the error bodies that FastAPI itself produces; handlers of the application's own are not altered.

The bodies are made by FastAPI's own handlers and only extended, so that ``detail`` stays byte for byte what this version
of FastAPI writes. Which exception led to a response is noted on the way, for the span and for the count of errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from otel_cc import context, guard
from otel_cc.http.request import KEY

Handler = Callable[[Any, Exception], Any]

_INTERNAL_ERROR = b'{"detail":"Internal Server Error"'


def extend(response: Any, request_id: str) -> None:
    """Add ``request_id`` to a JSON object response in place; any other response is left alone.

    :param response: a Starlette response that has not been sent
    """
    body = response.body
    if response.media_type != "application/json" or not (body.startswith(b"{") and body.endswith(b"}")):
        return
    separator = b"" if body == b"{}" else b","
    response.body = body[:-1] + separator + b'"request_id":' + json.dumps(request_id).encode() + b"}"
    response.headers["content-length"] = str(len(response.body))


def extending(handler: Handler) -> Handler:
    """FastAPI's own handler, with the request ID added to what it returns."""

    async def handle(request: Any, error: Exception) -> Any:
        response = await handler(request, error)
        try:
            correlation = context.current()
            if correlation is not None and response is not None:
                extend(response, correlation.request_id)
        except Exception:
            guard.failed("the error body")
        return response

    return handle


def noting(handler: Handler) -> Handler:
    """Any handler, unchanged, with the exception that it handles noted."""
    # By this Starlette decides whether a handler is awaited or runs in a thread.
    from starlette._utils import is_async_callable

    if is_async_callable(handler):

        async def handle(request: Any, error: Exception) -> Any:
            note(request.scope, error)
            return await handler(request, error)

        return handle

    def handle_in_thread(request: Any, error: Exception) -> Any:
        note(request.scope, error)
        return handler(request, error)

    return handle_in_thread


def noting_unhandled(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for ``ExceptionMiddleware.__call__``: what no handler takes may become a response in middleware."""

    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:
        try:
            await original(self, scope, receive, send)
        except Exception as error:
            note(scope, error)
            raise

    return __call__


def note(scope: Any, error: BaseException) -> None:
    """Remember the class of the exception that a handler turns into a response."""
    state = scope.get(KEY)
    if state is not None:
        state.error = error


async def internal_server_error(request: Any, error: Exception) -> Any:
    """What FastAPI answers to an unhandled exception (a plain text there), as JSON with the request ID.

    It is produced outside of all middleware, so that without help a browser could not read it: the CORS headers of the
    application are applied here, too.
    """
    from starlette.responses import Response

    note(request.scope, error)
    correlation = context.current()
    body = _INTERNAL_ERROR
    if correlation is not None:
        body += b',"request_id":' + json.dumps(correlation.request_id).encode()
    response = Response(body + b"}", status_code=500, media_type="application/json")
    try:
        return _with_cors(request, response)
    except Exception:
        guard.failed("the CORS headers of an error")
        return response


def _with_cors(request: Any, response: Any) -> Any:
    if "origin" not in request.headers or request.method == "OPTIONS":
        return response
    for middleware in getattr(request.app, "user_middleware", ()):
        # Starlette takes any callable, such as a partial, which has no name.
        if getattr(middleware.cls, "__name__", "") == "CORSMiddleware":
            return middleware.cls(response, *middleware.args, **middleware.kwargs)
    return response
