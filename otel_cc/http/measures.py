"""What is measured of every request: the instruments, and the start of a measurement when a request comes in."""

from __future__ import annotations

from time import time
from typing import Any

from opentelemetry.context import Context

from otel_cc import metrics
from otel_cc.http import excluded, queue_time
from otel_cc.http.in_flight import InFlight
from otel_cc.http.messages import Scope

_NOTHING: dict[str, Any] = {}


class Measures:
    """The instruments of requests and WebSocket connections; made when our producer, or contrib's, is switched on."""

    def __init__(self) -> None:
        self.duration = metrics.histogram("http.server.request.duration")
        self.request_size = metrics.histogram("http.server.request.body.size")
        self.response_size = metrics.histogram("http.server.response.body.size")
        self.queue_duration = metrics.histogram("http.server.request.queue.duration")
        self.disconnects = metrics.counter("http.server.disconnects")
        self.connection_duration = metrics.histogram("websocket.server.connection.duration")
        self.requests = InFlight()
        self.connections = InFlight()
        # A worker is a forked child of gunicorn's master, where this is made.
        self._take_back = (
            metrics.observe("http.server.active_requests", self.requests.read, in_children=True),
            metrics.observe("websocket.server.active_connections", self.connections.read, in_children=True),
        )
        self._excluded = excluded.pattern()

    def close(self) -> None:
        """Report nothing any more."""
        for take_back in self._take_back:
            take_back()

    def excludes(self, scope: Scope) -> bool:
        """Whether nothing is measured of a request, not its errors either, and no span made."""
        return self._excluded is not None and self._excluded.search(excluded.url(scope)) is not None

    def waited(self, header: bytes, context: Context) -> None:
        """Record how long a request waited before it came here.

        :param header: in which a proxy tells when it got the request
        :param context: where the span of the request is
        """
        seconds = queue_time.waited(header, time())
        if seconds is not None:
            self.queue_duration.record(seconds, _NOTHING, context)
