"""A request through the application: its ID in the context on the way in, in the response header on the way out.

This is the outermost thing that the application does with a request, so the ID is there in every middleware and handler
and on every response, those of middleware and of unhandled exceptions included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from otel_cc import context, guard, lifecycle, settings
from otel_cc.http.exchange import Exchange
from otel_cc.http.measures import Measures
from otel_cc.http.messages import Message, Receive, Scope, Send
from otel_cc.http.request import KEY, Reader, Request, without
from otel_cc.http.span import ServerSpans, unsampled
from otel_cc.http.websocket import Connection

Application = Callable[[Any, Scope, Receive, Send], Awaitable[None]]

_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class Entrance:
    """Wraps the call of an application class.

    :ivar spans: makes the SERVER span while our producer is on; None while it is off
    :ivar measures: what is measured while a producer is on, ours or contrib's
    """

    def __init__(self) -> None:
        self.spans: ServerSpans | None = None
        self.measures: Measures | None = None
        self._header = settings.get().request_id_header.lower().encode()
        self._writes_header = settings.get().response_header
        self._reader: Reader | None = None

    def wrap(self, call: Application) -> Application:
        """The wrapped ``__call__``; telemetry that fails lets the request through untouched."""

        async def __call__(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
            if KEY in scope:
                # A mounted application: part of the request that is served already.
                return await call(app, scope, receive, send)
            if scope["type"] == "lifespan":
                return await call(app, scope, receive, _lifespan(send))
            if scope["type"] not in ("http", "websocket"):
                return await call(app, scope, receive, send)
            await self._serve(call, app, scope, receive, send)

        return __call__

    async def _serve(self, call: Application, app: Any, scope: Scope, receive: Receive, send: Send) -> None:
        inside = None
        measured: Exchange | Connection | None = None
        receiving, sending = receive, send
        try:
            if self._reader is None:
                # The first request: the propagators are final now, and a server without lifespan is known to serve.
                self._reader = Reader()
                lifecycle.serving("asgi")
            ambient = otel_context.get_current()
            request, parent = self._reader.read(scope, ambient)
            makes_spans, measures_itself = _does_itself(app)
            # Whoever makes the span extracts the parent and starts a SERVER span only where none is current.
            inside = context.with_correlation(request, ambient if makes_spans else parent)
            if self.measures is not None:
                spans = None if makes_spans else self.spans
                try:
                    if not self.measures.excludes(scope):
                        measured, inside = _measure(self.measures, request, spans, inside, receive, not measures_itself)
                        receiving = measured.receive
                    elif spans is not None:
                        inside = unsampled(request, inside)
                except Exception:
                    # It costs the request its span, not its ID.
                    guard.failed("the start of a request's span")
            sending = self._sending(request, measured, send)
        except Exception:
            guard.failed("the request")
        if inside is None:
            return await call(app, scope, receive, send)
        token = otel_context.attach(inside)
        try:
            await call(app, scope, receiving, sending)
        except BaseException as error:
            request.error = error
            _mark(error, request)
            if measured is not None:
                measured.finish(error)
            raise
        finally:
            if measured is not None:
                measured.finish()
            otel_context.detach(token)
            # Scope and request, and an exception and its traceback, would keep each other; and whoever serves the scope
            # once more, with a second application, serves a new request.
            for held in (scope, request.scope):
                held.pop(KEY, None)
            request.error = None

    def _sending(self, request: Request, measured: Exchange | Connection | None, send: Send) -> Send:
        header = (self._header, request.request_id.encode())
        name = self._header
        writes_header = self._writes_header

        async def sending(message: Message) -> None:
            kind = message["type"]
            starts = kind in _STARTS
            if starts:
                if measured is not None:
                    try:
                        measured.responds(message)
                    except Exception:
                        guard.failed("the start of a response")
                if writes_header:
                    # A new list: an application may send the same response object, and so the same list, twice.
                    headers = without(message.get("headers") or (), name)
                    headers.append(header)
                    message = {**message, "headers": headers}
            if measured is None:
                return await send(message)
            try:
                await send(message)
            except OSError as error:
                measured.breaks(error)
                raise
            if not starts:
                try:
                    measured.sent(kind, message)
                except Exception:
                    guard.failed("the end of a response")

        return sending


def _measure(
    measures: Measures, request: Request, spans: ServerSpans | None, inside: Context, receive: Receive, whole: bool
) -> tuple[Exchange | Connection, Context]:
    """Begin to measure a request, and its span, where we make one; and the context to run the application in."""
    span = None
    if spans is not None:
        span, inside = spans.start(request, inside)
    if request.scope["type"] == "websocket":
        return Connection(measures, request, span, inside, receive), inside
    if request.queued is not None:
        measures.waited(request.queued, inside)
    return Exchange(measures, request, span, inside, receive, whole), inside


def _does_itself(app: Any) -> tuple[bool, bool]:
    """Whether an application makes its own span, and whether it measures its own requests."""
    # Contrib marks the applications that it instruments, and FastAPI's native telemetry is on only where the
    # application asked for it in code (carriers.py).
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return True, True
    native = getattr(app, "_telemetry", None)
    return (False, False) if native is None else (bool(native.get("tracing")), bool(native.get("metrics")))


def _mark(error: BaseException, request: Request) -> None:
    """Leave the IDs on an exception that leaves the request, for the server's log line about it.

    uvicorn logs "Exception in ASGI application" after the context of the request is gone.
    """
    try:
        current = trace.get_current_span().get_span_context()
        span_id = f"{current.span_id:016x}" if current.is_valid else ""
        setattr(error, context.MARK, (request.request_id, f"{request.trace_id:032x}", span_id))
    except Exception:
        # An exception class with slots takes no attribute; its log line goes without the IDs.
        pass


def _lifespan(send: Send) -> Send:
    async def sending(message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            lifecycle.serving("asgi")
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            # The last moment that every server grants: after it, uvicorn may end by a signal and gunicorn by os._exit.
            try:
                from anyio.to_thread import run_sync

                await run_sync(lifecycle.stopped_serving)
            except Exception:
                guard.failed("the end of the serving")
        await send(message)

    return sending
