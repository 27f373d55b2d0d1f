"""The SERVER span of a request and its duration: one per request, ending with the last byte of the response.

Attributes and names follow the stable HTTP conventions
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span). What is known at the start is given at
creation; what only routing and the response can tell is added once, at the end.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from functools import lru_cache
from time import perf_counter, time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_cc import guard, metrics
from otel_cc.error_type import type_name
from otel_cc.http import capture, route
from otel_cc.http.request import Request
from otel_cc.tracing.id_generator import RequestIdGenerator
from otel_cc.tracing.tracer import get_tracer

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method, with QUERY as FastAPI has it
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})

# Query parameters whose values are credentials, as the convention for url.query lists them.
_SECRET = re.compile(r"(^|&)(X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|sig|X-Goog-Signature)=[^&]*")

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LAST_MESSAGES = ("http.response.body", "http.response.trailers", "http.response.pathsend")


class ServerSpans:
    """Starts SERVER spans; made when our producer is switched on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.http")
        self.duration = metrics.histogram("http.server.request.duration")
        self.capture = capture.from_environment()
        self._excluded = _excluded_urls()

    def start(self, request: Request, parent: Context) -> tuple[ServerSpan | None, Context]:
        """Start the span of a request.

        :param request: the correlation, which is in ``parent`` too
        :param parent: the context with the remote parent, if there is one
        :return: the span, or None for an excluded URL; and the context to run the application in
        """
        scope = request.scope
        if self._excluded is not None and self._excluded.search(_url(scope)):
            # An unsampled parent: the statements and tasks of an excluded request make no spans of their own either.
            unsampled = SpanContext(request.trace_id, _ids.generate_span_id(), False, TraceFlags(TraceFlags.DEFAULT))
            return None, trace.set_span_in_context(NonRecordingSpan(unsampled), parent)
        websocket = scope["type"] == "websocket"
        attributes: dict[str, Any] = {"url.scheme": scope.get("scheme") or ("ws" if websocket else "http")}
        path = scope["path"]
        attributes["url.path"] = path
        if websocket:
            method, name = "GET", "WS"
            attributes["network.protocol.name"] = "websocket"
        else:
            method = scope["method"]
            name = method
            if method not in _METHODS:
                attributes["http.request.method_original"] = method
                method, name = "_OTHER", "HTTP"
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
        for header, value in scope["headers"]:
            if header == b"host":
                address, port = _server(value, attributes["url.scheme"])
                attributes["server.address"] = address
                if port:
                    attributes["server.port"] = port
            elif header == b"user-agent":
                attributes["user_agent.original"] = value.decode("latin-1")
        if self.capture is not None:
            self.capture.request(scope, attributes)
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        inside = trace.set_span_in_context(span, parent)
        return ServerSpan(self, request, span, inside, name, method), inside


_ids = RequestIdGenerator()


class ServerSpan:
    """The span of one request, and its entry in the duration histogram."""

    __slots__ = (
        "_ended_at",
        "_ended_ns",
        "_inside",
        "_method",
        "_name",
        "_spans",
        "_started",
        "request",
        "span",
        "status",
    )

    def __init__(
        self, spans: ServerSpans, request: Request, span: trace.Span, inside: Context, name: str, method: str
    ) -> None:
        self._spans = spans
        self.request = request
        self.span = span
        self._inside = inside
        self._name = name
        self._method = method
        self._started = perf_counter()
        self.status: int | None = None
        self._ended_at: float | None = None
        self._ended_ns: int | None = None

    def responds(self, message: MutableMapping[str, Any]) -> None:
        """Note how the application answers."""
        self.status = 101 if message["type"] == "websocket.accept" else message["status"]
        if self._spans.capture is not None and self.span.is_recording():
            self._spans.capture.response(message, self.span)

    def sent(self, kind: str, message: MutableMapping[str, Any]) -> None:
        """End the span if ``message`` was the last of the response."""
        if kind in _LAST_MESSAGES and not message.get("more_body") and not message.get("more_trailers"):
            if self.status is not None and self.status >= 500:
                # The exception behind it passes by only after the response: the end is noted now, the span ends then.
                self._ended_at, self._ended_ns = perf_counter(), time_ns()
            else:
                self.finish()

    def finish(self, left: BaseException | None = None) -> None:
        """End the span and record the duration; safe to call more than once.

        :param left: the exception that left the application before its response was complete
        """
        spans, self_started = self._spans, self._started
        if self_started < 0:
            return
        if left is not None:
            left = self.request.error = _the_one(left)
        self._started = -1.0
        try:
            self._finish(spans, (self._ended_at or perf_counter()) - self_started, left)
        except Exception:
            guard.failed("the server span")

    def _finish(self, spans: ServerSpans, seconds: float, left: BaseException | None) -> None:
        request, span, status = self.request, self.span, self.status
        scope = request.scope
        found = route.template(scope)
        websocket = scope["type"] == "websocket"
        error_type = None
        if websocket:
            if request.error is not None and not _normal_disconnect(request.error):
                error_type = type_name(type(request.error))
        elif left is not None:
            error_type = type_name(type(left))
        elif status is None:
            error_type = "no_response"
        elif status >= 500:
            error_type = str(status) if request.error is None else type_name(type(request.error))
        if not websocket:
            # While the span is current, so that the exemplar leads to it.
            spans.duration.record(
                seconds,
                _metric_attributes(
                    self._method, scope.get("scheme", "http"), scope.get("http_version"), found, status, error_type
                ),
                self._inside,
            )
        if span.is_recording():
            ending: dict[str, Any] = {}
            if found is not None:
                ending["http.route"] = found
                span.update_name(f"{self._name} {found}")
            if status is not None:
                ending["http.response.status_code"] = status
            if error_type is not None:
                ending["error.type"] = error_type
                span.set_status(StatusCode.ERROR)
                if request.error is not None:
                    span.record_exception(request.error)
            span.set_attributes(ending)
            span.end(self._ended_ns)


@lru_cache(maxsize=4096)
def _metric_attributes(
    method: str, scheme: str, version: str | None, route: str | None, status: int | None, error_type: str | None
) -> dict[str, str | int]:
    """The attributes of a duration; one dict for each combination, all of which are bounded by the code base."""
    attributes: dict[str, str | int] = {"http.request.method": method, "url.scheme": scheme}
    if version:
        attributes["network.protocol.version"] = version
    if route is not None:
        attributes["http.route"] = route
    if status is not None:
        attributes["http.response.status_code"] = status
    if error_type is not None:
        attributes["error.type"] = error_type
    return attributes


@lru_cache(maxsize=256)
def _server(host: bytes, scheme: str) -> tuple[str, int | None]:
    """Address and port of a Host header; a malformed one is the address as it came."""
    text = host.decode("latin-1")
    name, separator, port = text.rpartition(":")
    if separator and port.isascii() and port.isdigit() and "]" not in port and len(port) < 6:
        return name.strip("[]"), int(port)
    return text.strip("[]"), _PORTS.get(scheme)


def _url(scope: MutableMapping[str, Any]) -> str:
    host = next((value for header, value in scope["headers"] if header == b"host"), b"").decode("latin-1")
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"


def _excluded_urls() -> re.Pattern[str] | None:
    """The patterns of ``OTEL_PYTHON_FASTAPI_EXCLUDED_URLS``, or else of ``OTEL_PYTHON_EXCLUDED_URLS``."""
    variable = "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS"
    if variable not in os.environ:
        variable = "OTEL_PYTHON_EXCLUDED_URLS"
    patterns = [part.strip() for part in os.environ.get(variable, "").split(",") if part.strip()]
    if not patterns:
        return None
    try:
        return re.compile("|".join(patterns))
    except re.error as error:
        guard.warn_once(
            "excluded urls", "%s is not a list of regular expressions (%s): no URL is excluded.", variable, error
        )
        return None


def _the_one(error: BaseException) -> BaseException:
    """The exception in a group of one, which is how a task group raises what its only task raised."""
    for _ in range(8):
        members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
        if len(members) != 1:
            break
        error = members[0]
    return error


def _normal_disconnect(error: BaseException) -> bool:
    return type(error).__name__ == "WebSocketDisconnect" and getattr(error, "code", None) in (1000, 1001)
