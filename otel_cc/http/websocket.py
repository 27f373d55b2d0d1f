"""One WebSocket connection from its handshake to its end: what is measured of it, and how it ended."""

from __future__ import annotations

from time import perf_counter, time_ns

from opentelemetry.context import Context

from otel_cc import error_count, guard
from otel_cc.error_type import type_name
from otel_cc.http import labels, outcome, route
from otel_cc.http.measures import Measures
from otel_cc.http.messages import Message, Receive
from otel_cc.http.request import Request
from otel_cc.http.span import ServerSpan
from otel_cc.metrics import bounded
from otel_cc.metrics.catalogue import OTHER

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
_CODES = (*range(1000, 1004), *range(1005, 1016), 3000, 3003, 3008)
NO_CODE, LOST, SERVER_ERROR = 1005, "1006", "1011"

_ACCEPTED, _REFUSED = 101, 403


class Connection:
    """A WebSocket connection, or the refusal of one.

    :param span: its span, where we make one
    :param context: where its span is
    :param receive: the server's; what the client sends comes from it
    """

    __slots__ = (
        "_broken",
        "_code",
        "_context",
        "_ended",
        "_ended_ns",
        "_finished",
        "_gone",
        "_measures",
        "_receive",
        "_request",
        "_scheme",
        "_span",
        "_started",
        "_status",
    )

    def __init__(
        self, measures: Measures, request: Request, span: ServerSpan | None, context: Context, receive: Receive
    ) -> None:
        self._measures = measures
        self._request = request
        self._span = span
        self._context = context
        self._receive = receive
        self._scheme = labels.scheme(request.scope.get("scheme") or "ws")
        self._status: int | None = None
        self._code: str | None = None
        self._finished = False
        self._gone = False
        self._broken: BaseException | None = None
        self._ended = 0.0
        self._ended_ns: int | None = None
        self._started = perf_counter()

    async def receive(self) -> Message:
        """The server's ``receive``, watched."""
        message = await self._receive()
        try:
            if message["type"] == "websocket.disconnect" and not self._ended:
                self._gone = True
                self._closes(_known(message.get("code") or NO_CODE))
        except Exception:
            guard.failed("the end of a WebSocket connection")
        return message

    def responds(self, message: Message) -> None:
        """Note how the application answers the handshake."""
        if message["type"] == "websocket.accept":
            self._status = _ACCEPTED
            self._measures.connections.enter(self, labels.open_connection(self._scheme))
        else:
            self._status = int(message["status"])
        if self._span is not None:
            self._span.responds(message)

    def sent(self, kind: str, message: Message) -> None:
        """Note the end of the connection, or its refusal, if the message says so."""
        if kind == "websocket.close":
            if self._status is None:
                self._status = _REFUSED
            self._closes(_chosen(message.get("code") or 1000))

    def breaks(self, error: BaseException) -> None:
        """Note that a message could not be sent."""
        self._broken = error
        if not self._ended:
            self._gone = True
            self._closes(LOST)

    def finish(self, left: BaseException | None = None) -> None:
        """The connection is over; safe to call more than once.

        :param left: the exception that left the application
        """
        if self._finished:
            return
        self._finished = True
        self._measures.connections.leave(self)
        try:
            if left is not None:
                left = self._request.error = outcome.the_one(left)
            self._finish(left)
        except Exception:
            guard.failed("the measurement of a WebSocket connection")

    def _closes(self, code: str) -> None:
        """The connection is closed; the first one to do so decides."""
        if not self._ended:
            self._ended, self._ended_ns = perf_counter(), time_ns()
            self._measures.connections.leave(self)
            if self._status == _ACCEPTED:
                self._code = code

    def _finish(self, left: BaseException | None) -> None:
        seconds = (self._ended or perf_counter()) - self._started
        request, status = self._request, self._status
        found = route.template(request.scope)
        if status == _ACCEPTED:
            # The server cuts a connection that the application did not close.
            self._closes(LOST)
        error_type = counted = None
        error = request.error
        if error is not None and outcome.is_disconnect(error, self._gone, self._broken):
            error = None
        elif left is not None:
            error_type = counted = type_name(type(left))
        elif status is None:
            error_type = counted = None if self._gone else outcome.NO_RESPONSE
        elif status >= 500 or (self._code == SERVER_ERROR and not self._gone):
            plain = str(status) if status >= 500 else SERVER_ERROR
            error_type = counted = plain if error is None else type_name(type(error))
        failure = counted is not None
        self._measures.connection_duration.record(
            seconds, labels.connection(self._scheme, found, self._code, error_type), self._context
        )
        if not failure and error is not None and outcome.is_answer(error):
            counted = type_name(type(error))
        if counted is not None:
            error_count.request(found, 500 if status is None else status, counted)
        if self._span is not None:
            self._span.end(found, status, error_type, failure, error, self._ended_ns)


def _known(code: int) -> str:
    """A code that came from the client: one that is registered, or ``_OTHER``."""
    # Some servers give members of an IntEnum, whose text is another one.
    return f"{int(code)}" if code in _CODES else OTHER


def _chosen(code: int) -> str:
    """A code that the application closes with."""
    if code in _CODES or not isinstance(code, int):
        return _known(code)
    for registered in _CODES:
        # These have their places within the bound.
        bounded("websocket.close_code", str(registered))
    return bounded("websocket.close_code", f"{int(code)}")
