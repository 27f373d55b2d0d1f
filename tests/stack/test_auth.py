"""The production overlay: no telemetry without TLS and the token."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import programs
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK
from tests.stack.sender import counter, log, metrics, post, spans


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", folder / "server.key", "-out", folder / "server.crt"]
    what = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *key, *files, *what], check=True, capture_output=True)
    return folder


def secure(port: int, tls: Path, headers: Mapping[str, str], number: int = 1) -> int:
    context = ssl.create_default_context(cafile=str(tls / "server.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    try:
        body = spans(number, 1).SerializeToString()
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_production_wants_tls_and_the_token_which_can_be_changed(
    processes: Processes, sink: Sink, tls: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first-token")
    env = {
        **QUICK,
        "OTEL_CC_TRACES_URL": sink.endpoint,
        "OTEL_CC_PROMETHEUS_URL": sink.endpoint,
        "OTEL_CC_COLLECTOR_TOKEN_FILE": str(token),
        "OTEL_CC_COLLECTOR_TLS": str(tls),
    }
    collector = local_collector.start(processes, overlays=["production"], env=env)
    assert "is ignored" not in collector.process.output()
    port = collector.http_port
    assert post(port, "/v1/traces", spans(1, 1).SerializeToString()) in (0, 400)
    assert secure(port, tls, {}) == 401
    assert secure(port, tls, {"Authorization": "Bearer wrong"}) == 401
    assert secure(port, tls, {"Authorization": "Bearer first-token"}, 7) == 200
    assert [span.span_id for span in sink.wait_spans(1)] == [f"{7:016x}"]
    grpc = ["--otlp-endpoint", f"localhost:{collector.grpc_port}", "--ca-cert", str(tls / "server.crt"), "--traces=1"]
    for shown, arrives in (("wrong", 0), ("first-token", 2)):
        sink.clear()
        header = f'--otlp-header=Authorization="Bearer {shown}"'
        command = [programs.find("telemetrygen"), "traces", *grpc, header]
        subprocess.run(command, check=False, capture_output=True, timeout=60)
        assert len(sink.wait_spans(arrives)) == arrives
    token.write_text("second-token")
    wait_until(lambda: secure(port, tls, {"Authorization": "Bearer second-token"}) == 200, 30, "the new token")
    assert secure(port, tls, {"Authorization": "Bearer first-token"}) == 401


def test_an_agent_hands_on_to_a_gateway(processes: Processes, sink: Sink, tls: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-token")
    stores = {
        "OTEL_CC_TRACES_URL": sink.endpoint,
        "OTEL_CC_PROMETHEUS_URL": sink.endpoint,
        "OTEL_CC_LOGS_URL": f"{sink.endpoint}/v1/logs",
    }
    server = {"OTEL_CC_COLLECTOR_TOKEN_FILE": str(token), "OTEL_CC_COLLECTOR_TLS": str(tls)}
    gateway = local_collector.start(
        processes, overlays=["production", "logs"], env={**QUICK, **stores, **server}, name="gateway"
    )
    client = {
        "OTEL_CC_GATEWAY_URL": f"https://127.0.0.1:{gateway.http_port}",
        "OTEL_CC_GATEWAY_TOKEN_FILE": str(token),
        "OTEL_CC_GATEWAY_CA": str(tls / "server.crt"),
        "OTEL_CC_HOST_NAME": "web-1",
    }
    agent = local_collector.start(processes, overlays=["gateway", "logs"], env={**QUICK, **client}, name="agent")
    secret = {"session.token": "abc"}
    for path, request in (
        ("traces", spans(1, 3, secret)),
        ("metrics", metrics("shop", counter("things", 1, token="abc"))),
        ("logs", log("it failed", secret)),
    ):
        assert post(agent.http_port, f"/v1/{path}", request.SerializeToString()) == 200
    for span in sink.wait_spans(3):
        assert span.attributes["session.token"] == "****" and span.resource["host.name"] == "web-1"
    (point,) = sink.wait_metric("things")
    assert point.attributes["token"] == "****" and point.resource["host.name"] == "web-1"
    (record,) = wait_until(sink.logs, 30, "the log record")
    assert record.attributes["session.token"] == "****" and record.resource["host.name"] == "web-1"
