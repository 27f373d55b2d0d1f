"""Which exporters do without protobuf, requests and urllib3, and that they send what the official ones would."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from otel_cc.otlp import client, exporters
from tests.conftest import Launch

# Before 1.45 the exporters are not made of these pieces; everything goes the official way there.
AVAILABLE = importlib.metadata.version("opentelemetry-exporter-otlp-proto-http") >= "1.45"
OTLP = ["otlp_proto_http"]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "getproxies", dict)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("endpoint", [None, "http://collector:4318"])
def test_a_plain_endpoint_needs_no_more_than_http(monkeypatch: pytest.MonkeyPatch, endpoint: str | None) -> None:
    if endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    assert exporters.lean("traces", OTLP) == ({"otlp_proto_http": exporters.LeanSpans} if AVAILABLE else {})
    assert exporters.lean("metrics", OTLP) == ({"otlp_proto_http": exporters.LeanMetrics} if AVAILABLE else {})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:password@collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:many"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/etc/key.pem"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "mine"),
        ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true"),
    ],
)
def test_what_the_official_exporter_is_needed_for_stays_with_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert exporters.lean("traces", OTLP) == {}


def test_a_proxy_stays_with_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "getproxies", lambda: {"http": "http://proxy:3128"})
    assert exporters.lean("traces", OTLP) == {}


@pytest.mark.parametrize(("entry", "official"), [("collector", True), ("default", True), ("elsewhere", False)])
def test_a_password_in_netrc_stays_with_requests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: str, official: bool
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{'default' if entry == 'default' else f'machine {entry}'} login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert (exporters.lean("traces", OTLP) == {}) is (official or not AVAILABLE)


def test_other_exporters_are_left_alone() -> None:
    assert exporters.lean("traces", ["console", "otlp_proto_grpc"]) == {}


def test_an_exporter_of_the_users_under_the_same_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = importlib.metadata.EntryPoint("otlp_proto_http", "mine:Exporter", "opentelemetry_traces_exporter")
    monkeypatch.setattr(exporters, "entry_points", lambda **_: [mine])
    assert exporters.lean("traces", OTLP) == {}


PROGRAM = """
import sys
from opentelemetry import metrics, trace
metrics.get_meter("test").create_counter("counted").add(3)
trace.get_tracer("test").start_span("one").end()
assert metrics.get_meter_provider().force_flush()
assert trace.get_tracer_provider().force_flush()
print("heavy", sorted({name.split(".")[0] for name in sys.modules} & {"google", "requests", "urllib3"}), flush=True)
"""


def test_no_protobuf_requests_or_urllib3_is_loaded_for_a_plain_endpoint(launch: Launch) -> None:
    program = launch(["python", "send.py"], files={"send.py": PROGRAM})
    assert program.wait(60) == 0, program.tail()
    assert ("heavy []" in program.output().splitlines()) == AVAILABLE
    assert launch.sink.latest("counted")
    assert launch.sink.spans()
