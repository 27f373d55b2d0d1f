"""What a real server measures is what its client counted, in our mode and in contrib's."""

from __future__ import annotations

import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from otel_cc.local.process import says, wait_until
from otel_cc.local.sink import Sink
from tests.conftest import Launch
from tests.http.conftest import APP, MODES, Service, serve

HTTP_EXCEPTION, ROUTER_EXCEPTION = "fastapi.exceptions.HTTPException", "starlette.exceptions.HTTPException"
VALIDATION = "fastapi.exceptions.RequestValidationError"
GONE = "client_disconnected"


@dataclass(frozen=True)
class Kind:
    """A kind of request, and how it must be counted.

    :param error: the exception class, or the status, of the errors metric
    :param failed: error.type of the duration
    """

    method: str
    path: str
    status: int
    route: str | None = ""
    error: str | None = None
    failed: str | None = None
    body: bytes = b""
    labelled: str = ""

    @property
    def template(self) -> str | None:
        return self.path if self.route == "" else self.route


KINDS = (
    Kind("GET", "/ok", 200),
    Kind("GET", "/sync/7", 200, "/sync/{number}"),
    Kind("POST", "/echo", 200, body=b"x" * 70_000),
    Kind("GET", "/nowhere/at/all", 404, None, ROUTER_EXCEPTION),
    Kind("DELETE", "/ok", 405, error=ROUTER_EXCEPTION),
    Kind("PROPFIND", "/ok", 405, error=ROUTER_EXCEPTION, labelled="_OTHER"),
    Kind("POST", "/items", 422, error=VALIDATION, body=b'{"game": 1}'),
    Kind("GET", "/sync/seven", 422, "/sync/{number}", VALIDATION),
    Kind("GET", "/missing", 404, error=HTTP_EXCEPTION),
    Kind("GET", "/empty", 304),
    Kind("GET", "/unavailable", 503, error=HTTP_EXCEPTION, failed=HTTP_EXCEPTION),
    Kind("GET", "/unhandled", 500, error="ValueError", failed="ValueError"),
    Kind("GET", "/handled/503", 503, "/handled/{status}", "app.Handled", "app.Handled"),
    Kind("GET", "/handled/400", 400, "/handled/{status}"),
    Kind("GET", "/stream", 200),
    Kind("GET", "/background", 200),
    Kind("GET", "/background-fails", 200),
    Kind("GET", "/outer/inner/5", 200, "/outer/inner/{x}"),
    Kind("GET", "/tenants/7/items/3", 200, "/tenants/{tenant}/items/{number}"),
    Kind("GET", "/tenants/7/nowhere", 404, "/tenants/{tenant}", ROUTER_EXCEPTION),
    Kind("GET", "/tenants/7/boom", 500, "/tenants/{tenant}/boom", "ValueError", "ValueError"),
    Kind("GET", "/plain/x", 200, "/plain/{leaf}"),
    Kind("GET", "/ok?copied", 200, "/ok"),
    Kind("GET", "/plain/x?copied", 200, "/plain/{leaf}"),
    Kind("GET", "/tenants/7/items/3?copied", 200, "/tenants/{tenant}/items/{number}"),
    Kind("GET", "/tenants/7/nowhere?copied", 404, "/tenants/{tenant}", ROUTER_EXCEPTION),
    Kind("GET", "/missing?copied", 404, "/missing", HTTP_EXCEPTION),
    Kind("DELETE", "/ok?copied", 405, "/ok", ROUTER_EXCEPTION),
    Kind("GET", "/unhandled?caught", 500, "/unhandled", "ValueError", "ValueError"),
    Kind("GET", "/tenants/7/boom?caught", 500, "/tenants/{tenant}/boom", "ValueError", "ValueError"),
)
# Requests whose client does not wait, and how many.
LEAVING = {"/slow": 3, "/endless": 2}
# WebSocket connections: route, code, error.type of the duration; and status and class of the errors metric.
SOCKETS: dict[str, tuple[str | None, str | None, str | None, tuple[int, str] | None]] = {
    "/ws/1": ("/ws/{room}", "1000", None, None),
    "/ws-refuses": ("/ws-refuses", None, None, None),
    "/ws-crashes": ("/ws-crashes", "1006", "KeyError", (101, "KeyError")),
    "/ws-forbids": ("/ws-forbids", "1008", None, (101, "fastapi.exceptions.WebSocketException")),
    "/ws-nowhere": (None, None, None, None),
}


@dataclass
class Truth:
    """What the client counted: requests, bytes, errors; and what arrived."""

    mode: str
    sink: Sink
    requests: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    sent: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    received: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    errors: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    sockets: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def exported(self, name: str, *labels: str, sums: bool = False) -> dict[tuple[Any, ...], float]:
        """The totals by some labels."""
        found: Counter[tuple[Any, ...]] = Counter()
        for point in self.sink.latest(name):
            number = point.count if point.kind == "histogram" and not sums else point.value
            found[tuple(point.attributes.get(label) for label in labels)] += number  # type: ignore[assignment]
        return dict(found)


def send(service: Service, truth: Truth) -> None:
    for number in range(2):
        for kind in KINDS:
            headers = {"X-Request-Start": "t=1700000000"} if number else {}
            response = service.client.request(kind.method, kind.path, content=kind.body, headers=headers)
            assert response.status_code == kind.status, kind
            key = (kind.labelled or kind.method, kind.template, kind.status, kind.failed)
            truth.requests[key] += 1
            truth.sent[key] += len(kind.body)
            truth.received[key] += len(response.content)
            if kind.error:
                truth.errors[kind.template or "unmatched", kind.status, kind.error] += 1
    for path, times in LEAVING.items():
        for _ in range(times):
            leave(service, path)
            truth.requests["GET", path, 200, GONE] += 1


def leave(service: Service, path: str) -> None:
    """Send a request, and go away before, or while, it is answered."""
    address = httpx.URL(service.url)
    waits = path != "/endless"
    with socket.create_connection((address.host, address.port or 80)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        if waits:
            # The server has it: a request on another connection is answered after it was read.
            service.get("/health")
        else:
            connection.recv(1)
    if waits:
        service.get("/health/left")


def closes(service: Service, path: str) -> str:
    """The code with which a connection is closed."""
    try:
        with connect(service.url.replace("http", "ws") + path) as websocket:
            if path == "/ws/1":
                websocket.send("hello")
                websocket.recv()
            try:
                websocket.recv()
            except ConnectionClosed:
                pass
            return f"{websocket.close_code:d}"
    except InvalidStatus:
        return "refused"


def talk(service: Service, truth: Truth) -> None:
    for path, (route, code, failed, error) in SOCKETS.items():
        assert closes(service, path) == (code or "refused")
        truth.sockets[route, code, failed] += 1
        if error:
            truth.errors[(route, *error)] += 1


def gone(truth: Truth) -> float:
    return sum(truth.exported("http.server.disconnects").values())


@pytest.fixture(scope="module", params=["own", "contrib"])
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """Everything is sent once, then the server is stopped, which delivers the rest."""
    env = {**MODES[request.param], "OTEL_PYTHON_EXCLUDED_URLS": "/health"}
    for service in serve(tmp_path_factory.mktemp(request.param), env):
        found = Truth(request.param, service.sink)
        send(service, found)
        talk(service, found)

        wait_until(lambda: gone(found) == sum(LEAVING.values()), 30, "the clients that left")  # noqa: B023
        service.process.stop()
        # It has its answer; what goes wrong then is an error all the same, where BaseHTTPMiddleware lets it out.
        if late := service.process.output().count("\nKeyError: 'afterwards'"):
            found.errors["/background-fails", 200, "KeyError"] = late
        yield found


DURATION = ("http.request.method", "http.route", "http.response.status_code", "error.type")


def own(truth: Truth) -> None:
    if truth.mode != "own":
        # Contrib's numbers are its own; that ours do not come on top of them is what is checked.
        for name in ("request.duration", "active_requests", "request.body.size", "response.body.size"):
            assert {point.scope for point in truth.sink.latest(f"http.server.{name}")} == {
                "opentelemetry.instrumentation.fastapi"
            }


def test_every_request_is_measured_once(truth: Truth) -> None:
    own(truth)
    if truth.mode == "own":
        assert truth.exported("http.server.request.duration", *DURATION) == truth.requests


def test_every_byte_is_counted(truth: Truth) -> None:
    if truth.mode == "own":
        sent = truth.exported("http.server.request.body.size", *DURATION, sums=True)
        assert sent == {**dict.fromkeys(truth.requests, 0), **truth.sent}
        received = truth.exported("http.server.response.body.size", *DURATION, sums=True)
        # What the server gave to a connection that was gone, nobody received.
        assert {key: size for key, size in received.items() if key[3] != GONE} == truth.received


def test_every_error_is_counted_once(truth: Truth) -> None:
    assert truth.exported("commandcenter.errors", "endpoint", "status_code", "error_type") == truth.errors


def test_every_client_that_left_is_counted(truth: Truth) -> None:
    assert truth.exported("http.server.disconnects", "http.request.method", "http.route") == {
        ("GET", path): times for path, times in LEAVING.items()
    }


def test_every_connection_is_measured_once(truth: Truth) -> None:
    labels = ("http.route", "websocket.close_code", "error.type")
    assert truth.exported("websocket.server.connection.duration", *labels) == truth.sockets


def test_nothing_stays_open(truth: Truth) -> None:
    assert truth.exported("http.server.active_requests").values()
    assert set(truth.exported("http.server.active_requests").values()) == {0}
    assert truth.exported("websocket.server.active_connections", "url.scheme") == {("ws",): 0}


def test_a_background_task_is_not_part_of_the_request(truth: Truth) -> None:
    if truth.mode == "own":
        (point,) = [
            p
            for p in truth.sink.latest("http.server.request.duration")
            if p.attributes.get("http.route") == "/background"
        ]
        assert point.min is not None
        # The fastest: a busy machine may hold any single one up.
        assert point.min < 0.05
        assert point.value / point.count < 0.5


def test_a_time_that_cannot_be_right_is_not_measured(truth: Truth) -> None:
    assert truth.exported("http.server.request.queue.duration") == {}


def test_the_span_of_a_client_that_left_says_so(truth: Truth) -> None:
    if truth.mode == "own":
        found = [span for span in truth.sink.spans() if span.attributes.get("error.type") == GONE]
        assert {(span.name, span.status) for span in found} == {("GET /slow", "UNSET"), ("GET /endless", "UNSET")}
        assert len(found) == sum(LEAVING.values())


def test_the_wait_before_the_application_is_measured(truth: Truth, tmp_path: Any) -> None:
    if truth.mode == "own":
        for service in serve(tmp_path, {}):
            began = time.time()
            service.get("/ok", headers={"X-Queue-Start": f"t={(began - 3) * 1000:.0f}"})
            took = time.time() - began
            (point,) = service.sink.wait_metric("http.server.request.queue.duration")
            # The header has milliseconds.
            assert (point.count, 3 - 0.001 <= point.value <= 3 + 0.001 + took) == (1, True)
            # Each export has the exemplars of its own interval only.
            points = service.sink.metrics()["http.server.request.queue.duration"]
            assert sum(len(point.exemplars) for point in points) == 1


def test_a_proxy_is_known_where_uvicorn_puts_its_client_in_its_place(tmp_path: Path) -> None:
    for service in serve(tmp_path, {}):
        now = f"t={time.time():.3f}"
        service.get("/ok", headers={"X-Request-Start": now, "X-Forwarded-For": "8.8.8.8"})
        (point,) = service.sink.wait_metric("http.server.request.queue.duration")
        assert point.count == 1


def test_a_proxy_is_known_on_a_unix_socket(launch: Launch, sink: Sink) -> None:
    # The path of a socket may have about a hundred characters.
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/app.sock"
        launch(["uvicorn", "app:app", "--uds", path], files=APP, ready=says("startup complete"))
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://app", timeout=30) as client:
            client.get("/ok", headers={"X-Request-Start": f"t={time.time():.3f}"})
        (point,) = sink.wait_metric("http.server.request.queue.duration")
        assert point.count == 1


def test_a_forked_worker_reports_what_is_open(launch: Launch, sink: Sink) -> None:
    server = launch.gunicorn("--workers", "2", files=APP)
    assert httpx.get(server.url + "/ok", timeout=30).status_code == 200
    # The first collection may fall into the request.
    (point,) = sink.wait_metric("http.server.active_requests", where=lambda point: point.value == 0)
    assert (point.value, point.attributes) == (0, {"http.request.method": "GET", "url.scheme": "http"})
