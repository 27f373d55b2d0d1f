"""The SERVER span of a request or a WebSocket connection; when and how it ends is told by who measures it.

Attributes and names follow the stable HTTP conventions
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span). What is known at the start is given at
creation; what only routing and the response can tell is added once, at the end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_cc.http import capture, labels
from otel_cc.http.messages import Message
from otel_cc.http.request import Request
from otel_cc.metrics.catalogue import OTHER
from otel_cc.tracing.id_generator import RequestIdGenerator
from otel_cc.tracing.tracer import get_tracer

# Query parameters whose values are credentials, as the convention for url.query lists them.
_SECRET = re.compile(r"(^|&)(X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|sig|X-Goog-Signature)=[^&]*")

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class ServerSpans:
    """Starts SERVER spans; made when our producer is switched on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.http")
        self.capture = capture.from_environment()

    def start(self, request: Request, parent: Context) -> tuple[ServerSpan, Context]:
        """Start the span of a request.

        :param request: the correlation, which is in ``parent`` too
        :param parent: the context with the remote parent, if there is one
        :return: the span, and the context to run the application in
        """
        scope = request.scope
        websocket = scope["type"] == "websocket"
        attributes: dict[str, Any] = {"url.scheme": scope.get("scheme") or ("ws" if websocket else "http")}
        path = scope["path"]
        attributes["url.path"] = path
        if websocket:
            method, name = "GET", "WS"
            attributes["network.protocol.name"] = "websocket"
        else:
            given = scope["method"]
            method = name = labels.method(given)
            if method == OTHER:
                attributes["http.request.method_original"] = given
                name = "HTTP"
        attributes["http.request.method"] = method
        query = scope.get("query_string")
        if query:
            attributes["url.query"] = _SECRET.sub(r"\1\2=REDACTED", query.decode("latin-1"))
        version = scope.get("http_version")
        if version:
            attributes["network.protocol.version"] = version
        client = scope.get("client")
        if client:
            attributes["client.address"] = client[0]
        host = request.headers.get(b"host")
        if host is not None:
            address, port = _server(host, attributes["url.scheme"])
            attributes["server.address"] = address
            if port:
                attributes["server.port"] = port
        agent = request.headers.get(b"user-agent")
        if agent is not None:
            attributes["user_agent.original"] = agent.decode("latin-1")
        if self.capture is not None:
            self.capture.request(scope, attributes)
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        return ServerSpan(span, name, self.capture), trace.set_span_in_context(span, parent)


_ids = RequestIdGenerator()


def unsampled(request: Request, parent: Context) -> Context:
    """The context of an excluded request: its statements and tasks make no spans of their own either."""
    span = SpanContext(request.trace_id, _ids.generate_span_id(), False, TraceFlags(TraceFlags.DEFAULT))
    return trace.set_span_in_context(NonRecordingSpan(span), parent)


class ServerSpan:
    """The span of one request."""

    __slots__ = ("_capture", "_name", "_span")

    def __init__(self, span: trace.Span, name: str, response: capture.Capture | None) -> None:
        self._span = span
        self._name = name
        self._capture = response

    def responds(self, message: Message) -> None:
        """Take the headers of the response, where they are asked for."""
        if self._capture is not None and self._span.is_recording():
            self._capture.response(message, self._span)

    def end(
        self,
        route: str | None,
        status: int | None,
        error_type: str | None,
        failure: bool,
        error: BaseException | None,
        end_time: int | None,
    ) -> None:
        """End the span.

        :param route: the route template
        :param status: of the response
        :param error_type: what went wrong, if anything did
        :param failure: whether that is an error of ours
        :param error: the exception behind the failure
        :param end_time: in ns since 1970; None for now
        """
        span = self._span
        if not span.is_recording():
            return
        attributes: dict[str, Any] = {}
        if route is not None:
            attributes["http.route"] = route
            span.update_name(f"{self._name} {route}")
        if status is not None:
            attributes["http.response.status_code"] = status
        if error_type is not None:
            attributes["error.type"] = error_type
        if failure:
            span.set_status(StatusCode.ERROR)
            if error is not None:
                span.record_exception(error)
        span.set_attributes(attributes)
        span.end(end_time)


@lru_cache(maxsize=256)
def _server(host: bytes, scheme: str) -> tuple[str, int | None]:
    """Address and port of a Host header; a malformed one is the address as it came."""
    text = host.decode("latin-1")
    name, separator, port = text.rpartition(":")
    if separator and port.isascii() and port.isdigit() and "]" not in port and len(port) < 6:
        return name.strip("[]"), int(port)
    return text.strip("[]"), _PORTS.get(scheme)
