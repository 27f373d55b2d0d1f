"""One request from its arrival to the last byte of its response: what is measured of it, and how it ended."""

from __future__ import annotations

import os
from time import perf_counter, time_ns

from opentelemetry.context import Context

from otel_cc import error_count, guard
from otel_cc.error_type import type_name
from otel_cc.http import labels, outcome, route
from otel_cc.http.measures import Measures
from otel_cc.http.messages import Message, Receive
from otel_cc.http.request import Request
from otel_cc.http.span import ServerSpan
from otel_cc.metrics.histogram import LeanHistogram

# The exemplar of a smaller body, in bytes, would lead nowhere that its duration does not lead to, and costs as much.
_LARGE = 65536

_LAST_MESSAGES = ("http.response.body", "http.response.trailers", "http.response.pathsend")


class Exchange:
    """A request and its response.

    :param span: its span, where we make one
    :param context: where its span is
    :param receive: the server's; what the client sends comes from it
    :param whole: whether duration, active requests and body sizes are ours to record; else the application is
        instrumented by contrib or by FastAPI itself, and only what those cannot tell is recorded
    """

    __slots__ = (
        "_broken",
        "_complete",
        "_context",
        "_ended",
        "_ended_ns",
        "_finished",
        "_gone",
        "_measures",
        "_method",
        "_receive",
        "_received",
        "_request",
        "_scheme",
        "_sent",
        "_span",
        "_started",
        "_status",
        "_whole",
    )

    def __init__(
        self,
        measures: Measures,
        request: Request,
        span: ServerSpan | None,
        context: Context,
        receive: Receive,
        whole: bool,
    ) -> None:
        scope = request.scope
        self._measures = measures
        self._request = request
        self._span = span
        self._context = context
        self._receive = receive
        self._whole = whole
        self._method = labels.method(scope["method"])
        self._scheme = labels.scheme(scope.get("scheme") or "http")
        self._status: int | None = None
        self._received = 0
        self._sent = 0
        self._complete = False
        self._finished = False
        self._gone = False
        self._broken: BaseException | None = None
        self._ended = 0.0
        self._ended_ns: int | None = None
        if whole:
            measures.requests.enter(self, labels.active(self._method, self._scheme))
        self._started = perf_counter()

    async def receive(self) -> Message:
        """The server's ``receive``, watched."""
        message = await self._receive()
        try:
            kind = message["type"]
            if kind == "http.request":
                body = message.get("body")
                if body:
                    self._received += len(body)
            elif kind == "http.disconnect" and not self._complete:
                # After the response every server answers so.
                self._gone = True
        except Exception:
            guard.failed("the body of a request")
        return message

    def responds(self, message: Message) -> None:
        """Note how the application answers."""
        # Members of HTTPStatus have another text.
        self._status = int(message["status"])
        if self._span is not None:
            self._span.responds(message)

    def sent(self, kind: str, message: Message) -> None:
        """Note a message after the start of the response, and the end of the request if it was the last one."""
        body = message.get("body")
        if body:
            self._sent += len(body)
        if kind in _LAST_MESSAGES and not message.get("more_body") and not message.get("more_trailers"):
            if kind == "http.response.pathsend":
                self._sent += _size(message)
            self._gone = self._gone or self._client_left()
            self._complete = True
            if self._status is not None and self._status >= 500:
                # The exception behind it passes by only after the response: the end is noted now, the rest comes then.
                self._ended, self._ended_ns = perf_counter(), time_ns()
                self._measures.requests.leave(self)
            else:
                self.finish()

    def breaks(self, error: BaseException) -> None:
        """Note that a message could not be sent."""
        self._gone, self._broken = True, error

    def finish(self, left: BaseException | None = None) -> None:
        """The request is over; safe to call more than once.

        :param left: the exception that left the application
        """
        if self._finished and left is None:
            return
        self._measures.requests.leave(self)
        try:
            if left is not None:
                left = self._request.error = outcome.the_one(left)
            if self._finished:
                self._fails_late(left)
            else:
                self._finished = True
                self._finish(left)
        except Exception:
            guard.failed("the measurement of a request")

    def _finish(self, left: BaseException | None) -> None:
        seconds = (self._ended or perf_counter()) - self._started
        request, measures, status = self._request, self._measures, self._status
        found = route.template(request.scope)
        if not self._complete and not self._gone:
            self._gone = self._client_left()
        error_type = counted = None
        error = request.error
        if error is not None and outcome.is_disconnect(error, self._gone, self._broken):
            # Nobody got the status that such an exception is turned into.
            self._gone, status, error_type = True, None, outcome.CLIENT_DISCONNECTED
        elif left is not None:
            error_type = counted = type_name(type(left))
        elif status is not None and status >= 500:
            error_type = counted = str(status) if error is None else type_name(type(error))
        elif self._gone:
            error_type = outcome.CLIENT_DISCONNECTED
        elif not self._complete:
            error_type = counted = outcome.NO_RESPONSE if status is None else outcome.INCOMPLETE_RESPONSE
        failure = counted is not None
        if self._whole:
            version = labels.version(request.scope.get("http_version"))
            attributes = labels.request(self._method, self._scheme, version, found, status, error_type)
            measures.duration.record(seconds, attributes, self._context)
            _record_size(measures.request_size, self._received, attributes, self._context)
            # Servers drop the body of an answer to HEAD.
            sent = 0 if self._method == "HEAD" else self._sent
            _record_size(measures.response_size, sent, attributes, self._context)
        if self._gone:
            measures.disconnects.add(1, labels.disconnect(self._method, found))
        if not failure and status is not None and status >= 400 and error is not None and outcome.is_answer(error):
            counted = type_name(type(error))
        if counted is not None:
            error_count.request(found, 500 if status is None else status, counted)
        if self._span is not None:
            self._span.end(found, status, error_type, failure, error, self._ended_ns)

    def _fails_late(self, left: BaseException | None) -> None:
        """Count what went wrong after a whole response: a background task, or a stream whose end BaseHTTPMiddleware made."""
        if isinstance(left, Exception) and not outcome.is_disconnect(left, self._gone, self._broken):
            error_count.request(route.template(self._request.scope), self._status or 500, type_name(type(left)))

    def _client_left(self) -> bool:
        # An application that does not ask never hears of it, and uvicorn drops silently what it sends then.
        return getattr(getattr(self._receive, "__self__", None), "disconnected", None) is True


def _record_size(histogram: LeanHistogram, size: int, attributes: labels.Labels, context: Context) -> None:
    if size < _LARGE:
        histogram.record_plain(size, attributes)
    else:
        histogram.record(size, attributes, context)


def _size(message: Message) -> int:
    try:
        return os.path.getsize(message["path"])
    except OSError:
        return 0
