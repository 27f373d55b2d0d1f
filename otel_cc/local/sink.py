"""The end of the data path for demo and tests: an OTLP/HTTP receiver on loopback that keeps what it gets.

Requests are stored as they come and decoded only when somebody asks, so that a load test measures the sender. It can
also play the backends that production has on a bad day: one that refuses, and one that accepts and never answers.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from otel_cc.local.signals import LogRecord, Point, Span, decode_logs, decode_metrics, decode_spans

T = TypeVar("T")


@dataclass(frozen=True)
class Export:
    """One request as it came in: header names in lower case, the body decompressed, the time of arrival (time.time())."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class Sink:
    """A receiver; ``with Sink() as sink`` or :meth:`start` and :meth:`stop`.

    :param port: 0 takes a free one
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.sink = self
        self.port: int = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-sink", daemon=True)
        self._changed = threading.Condition()
        self._exports: list[Export] = []
        self._requests = 0
        self._mode = "accept"
        self._status = 503
        self._released = threading.Event()
        self._decoded = 0
        self._spans: list[Span] = []
        self._points: list[Point] = []
        self._logs: list[LogRecord] = []

    def start(self) -> Sink:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port; what was received stays readable."""
        self._released.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def __enter__(self) -> Sink:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    # The bad days.

    def refuse(self, status: int = 503) -> None:
        """Answer every request with this status from now on."""
        self._status = status
        self._set_mode("refuse")

    def black_hole(self) -> None:
        """Accept every request and never answer it, until the mode changes or the sink stops."""
        self._set_mode("black hole")

    def accept(self) -> None:
        """Work normally again."""
        self._set_mode("accept")

    def _set_mode(self, mode: str) -> None:
        with self._changed:
            self._mode = mode
            self._released.set()
            self._released = threading.Event()

    def _receive(self, path: str, headers: Mapping[str, str], body: bytes) -> int | None:
        """Take one request in and return the status to answer with; None: no answer."""
        with self._changed:
            self._requests += 1
            mode, released = self._mode, self._released
            if mode == "accept":
                self._exports.append(Export(path, headers, body, time.time()))
            self._changed.notify_all()
        if mode == "black hole":
            released.wait()
            return None
        return self._status if mode == "refuse" else 200

    # What came in.

    @property
    def requests(self) -> int:
        """How many requests came in, refused and swallowed ones included."""
        return self._requests

    @property
    def exports(self) -> list[Export]:
        """The accepted requests."""
        with self._changed:
            return list(self._exports)

    def spans(self, where: Callable[[Span], bool] = lambda _span: True) -> list[Span]:
        """All spans so far, in order of arrival."""
        with self._changed:
            self._decode()
            return [span for span in self._spans if where(span)]

    def metrics(self) -> dict[str, list[Point]]:
        """All points of all exports so far, by name; the newest last."""
        with self._changed:
            self._decode()
            result: dict[str, list[Point]] = {}
            for point in self._points:
                result.setdefault(point.name, []).append(point)
            return result

    def latest(self, name: str) -> list[Point]:
        """The newest point of each series (resource and attributes) of one metric."""
        newest = {
            (repr(sorted(p.resource.items())), repr(sorted(p.attributes.items()))): p
            for p in self.metrics().get(name, [])
        }
        return list(newest.values())

    def logs(self) -> list[LogRecord]:
        """All log records so far."""
        with self._changed:
            self._decode()
            return list(self._logs)

    def clear(self) -> None:
        """Forget what came in."""
        with self._changed:
            self._exports, self._spans, self._points, self._logs = [], [], [], []
            self._decoded = 0
            self._requests = 0

    def wait_spans(
        self, n: int, timeout: float = 30.0, where: Callable[[Span], bool] = lambda _span: True
    ) -> list[Span]:
        """Wait until at least ``n`` spans (that match) are here and return all of them.

        :param timeout: seconds
        :raises TimeoutError: fewer came; the text lists those
        """
        found = self._wait(lambda: spans if len(spans := self.spans(where)) >= n else None, timeout)
        if found is None:
            came = "".join(f"\n    {span.service}: {span.name} ({span.kind})" for span in self.spans())
            raise TimeoutError(
                f"{len(self.spans(where))} of {n} spans arrived within {timeout:g} s; all that came:{came or ' nothing'}"
            )
        return found

    def wait_metric(
        self, name: str, timeout: float = 30.0, where: Callable[[Point], bool] = lambda _point: True
    ) -> list[Point]:
        """Wait until the metric has a newest point (that matches) and return those.

        :param timeout: seconds
        :raises TimeoutError: none came; the text lists the names that did
        """
        found = self._wait(lambda: [point for point in self.latest(name) if where(point)] or None, timeout)
        if found is None:
            raise TimeoutError(
                f"no such point of {name} arrived within {timeout:g} s; metrics that came: {sorted(self.metrics())}"
            )
        return found

    def wait_requests(self, n: int, timeout: float = 30.0) -> None:
        """Wait until ``n`` requests have come in, answered or not."""
        if self._wait(lambda: self._requests >= n or None, timeout) is None:
            raise TimeoutError(f"{self._requests} of {n} requests arrived within {timeout:g} s.")

    def _wait(self, look: Callable[[], T | None], timeout: float) -> T | None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            return found

    def _decode(self) -> None:
        for export in self._exports[self._decoded :]:
            if export.path.endswith("/v1/traces"):
                self._spans.extend(decode_spans(export.body))
            elif export.path.endswith("/v1/metrics"):
                self._points.extend(decode_metrics(export.body))
            elif export.path.endswith("/v1/logs"):
                self._logs.extend(decode_logs(export.body))
        self._decoded = len(self._exports)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A fork of a load generator opens many connections at once.
    request_queue_size = 128
    sink: Sink

    def __init__(self, *args: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        # Exporters keep their connections, and the thread of each waits on it.
        for request in list(self._open):
            try:
                request.shutdown(2)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that goes away in the middle of a request is no news here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The sender was killed in the middle: nothing was received.
            self.close_connection = True
            return
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        status = self.server.sink._receive(
            self.path, {name.lower(): value for name, value in self.headers.items()}, body
        )
        if status is None:
            self.close_connection = True
            return
        self.send_response_only(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()
