"""Requests to a real server: connections are kept, given up and never shared.

Not for OpenTelemetry before 1.45, which has no transports: noxfile.py leaves this file out there.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from otel_cc import fork
from otel_cc.otlp import client, exporters
from otel_cc.otlp.transport import Transport


class Server(ThreadingHTTPServer):
    """Answers each request with the next status, 200 when there is none, and remembers who asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.peers: list[int] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.peers.append(self.client_address[1])
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        if status == 0:
            # The server goes away without an answer.
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": "2", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")
        if headers.get("Then") == "close":
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.close()


def test_a_request_arrives_whole_and_its_answer_comes_back(server: Server, transport: Transport) -> None:
    server.answers = [(503, {"Retry-After": "7"})]
    result = transport.request(
        "POST", f"{server.url}/v1/a?b=c", headers={"x-tenant": "a"}, data=b"\x00" * 70_000, timeout=30
    )
    assert (result.status_code, result.reason, result.error) == (503, "Service Unavailable", None)
    assert (result.content(), result.text(), result.json()) == (b"{}", "{}", {})
    assert result.headers()["retry-after"] == "7"
    method, path, headers, body = server.requests[0]
    assert (method, path, headers["x-tenant"], body) == ("POST", "/v1/a?b=c", "a", b"\x00" * 70_000)


def test_one_connection_serves_request_after_request(server: Server, transport: Transport) -> None:
    for _ in range(5):
        assert transport.request("POST", server.url, data=b"x", timeout=30).status_code == 200
    assert len(set(server.peers)) == 1
    assert server.requests[0][1] == "/"


def test_threads_never_share_a_connection(server: Server, transport: Transport) -> None:
    start = threading.Barrier(4)
    found: list[int | None] = []

    def send() -> None:
        start.wait()
        found.extend(transport.request("POST", server.url, data=b"x", timeout=30).status_code for _ in range(50))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 200
    assert len(set(server.peers)) <= 4


def test_the_client_sends_again_where_a_kept_connection_was_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.url)
    made = client.client("traces")
    server.answers = [(200, {"Then": "close"}), (200, {}), (0, {})]
    for _ in range(3):
        assert made.export(b"x").success
    made.shutdown()
    # The third was lost with its connection, and arrived with the next.
    assert len(server.requests) == 4
    assert caplog.messages == []


def test_nobody_there_is_worth_another_try(transport: Transport) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = transport.request("POST", url, data=b"x", timeout=30).error
    assert isinstance(error, ConnectionRefusedError)
    assert transport.is_connection_error(error)


def test_an_answer_that_does_not_come_is_not_asked_for_again(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = transport.request("POST", url, data=b"x", timeout=0.05).error
    assert isinstance(error, TimeoutError)
    assert not transport.is_connection_error(error)


def test_a_connection_that_is_not_made_in_time_is_worth_another_try(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    error = transport.request("POST", "http://127.0.0.1:1", data=b"x", timeout=0.05).error
    assert str(error) == "no connection to 127.0.0.1:1 within 0.05 s"
    assert transport.is_connection_error(error)


@pytest.mark.parametrize("url", ["http://", "http://a:b/", "http://a:99999/", "http://\x00/", "http://localhost:1/ü"])
def test_an_endpoint_that_is_none_is_an_error_and_no_exception(transport: Transport, url: str) -> None:
    assert transport.request("POST", url, data=b"x", timeout=1).error is not None


def test_a_redirect_is_told_instead_of_taken_for_success(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{server.url}/old")
    server.answers = [(308, {"Location": "/new"})]
    result = client.client("traces").export(b"x")
    assert not result.success
    assert type(result.error).__name__ == "Redirected"
    assert f"{server.url}/old answers 308 and names /new: set the endpoint to that." in caplog.text


@pytest.mark.parametrize("made", ["traces", "metrics"])
def test_a_child_leaves_the_connections_of_its_parent_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch, made: client.Signal
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{made.upper()}_ENDPOINT", server.url)
    monkeypatch.setattr(client, "getproxies", dict)
    exporter = exporters.lean(made, ["otlp_proto_http"])["otlp_proto_http"]()
    assert exporter._client.export(b"x").success
    (kept,) = exporter._client._transport._idle
    parents = kept.sock.dup()
    fork._reconnect(exporter)
    assert exporter._client._transport._idle == []
    assert exporter._client.export(b"x").success
    assert len(set(server.peers)) == 2
    # What the child closed is still open for the parent.
    kept.sock = parents
    kept.request("POST", "/", b"x")
    assert kept.getresponse().status == 200
    kept.close()
    exporter.shutdown()
