"""Exports go over urllib3 where that is all it takes, and over requests for everything else."""

from __future__ import annotations

import inspect

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from otel_cc.tracing import transport

# The exporters of OpenTelemetry before 1.45 take no transport; everything goes over requests there.
AVAILABLE = "_transport" in inspect.signature(OTLPSpanExporter.__init__).parameters


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "getproxies", dict)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("endpoint", [None, "http://collector:4318"])
def test_a_plain_endpoint_needs_no_more_than_urllib3(monkeypatch: pytest.MonkeyPatch, endpoint: str | None) -> None:
    if endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    for exporter, signal in ((OTLPSpanExporter, "traces"), (OTLPMetricExporter, "metrics")):
        assert (exporter in transport.lean({"otlp": exporter}, signal)) == AVAILABLE


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318/v1/traces"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/etc/key.pem"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "mine"),
    ],
)
def test_what_requests_is_needed_for_stays_with_it(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert transport.lean({"otlp": OTLPSpanExporter}, "traces") == {}


def test_a_proxy_stays_with_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "getproxies", lambda: {"http": "http://proxy:3128"})
    assert transport.lean({"otlp": OTLPSpanExporter}, "traces") == {}


def test_other_exporters_are_left_alone() -> None:
    assert transport.lean({"console": ConsoleSpanExporter}, "traces") == {}
