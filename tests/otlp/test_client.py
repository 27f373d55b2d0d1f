"""Our way to the official client makes the very client that the official exporters make.

Not for OpenTelemetry before 1.45, whose exporters have no client of their own: noxfile.py leaves this file out there.
"""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.common import http
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from otel_cc.otlp import client, exporters


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "getproxies", dict)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
        monkeypatch.delenv(name, raising=False)


def test_pieces_that_a_newer_version_has_changed_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        def __init__(self, url: str) -> None: ...

    monkeypatch.setattr(http, "_OTLPHTTPClient", Changed)
    assert exporters.lean("traces", ["otlp_proto_http"]) == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/under/"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1/here",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics:2/there",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20all,x-tenant=a",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-tenant=b",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "4.5",
        },
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "brotli", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
    ],
)
def test_the_client_is_the_one_that_the_official_exporter_would_make(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def told(made: object) -> dict[str, object]:
        return {
            key: value.name if key == "_logger" else value
            for key, value in vars(made).items()
            if key not in ("_transport", "_shutdown_event")
        }

    official: dict[client.Signal, Any] = {"traces": OTLPSpanExporter(), "metrics": OTLPMetricExporter()}
    assert {signal: told(client.client(signal)) for signal in official} == {
        signal: told(exporter._client) for signal, exporter in official.items()
    }


@pytest.mark.parametrize("preference", ["cumulative", "delta", "lowmemory"])
@pytest.mark.parametrize("histogram", ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"])
def test_temporality_and_aggregation_are_what_the_user_asked_for(
    monkeypatch: pytest.MonkeyPatch, preference: str, histogram: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", histogram)
    ours: Any = exporters.LeanMetrics()
    official: Any = OTLPMetricExporter()
    assert ours._preferred_temporality == official._preferred_temporality
    kinds = [{k: type(v) for k, v in made._preferred_aggregation.items()} for made in (ours, official)]
    assert kinds[0] == kinds[1]
