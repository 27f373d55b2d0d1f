"""Where the start line says that a signal goes."""

from __future__ import annotations

import os

import pytest

from otel_cc import sdk

OTLP = {"OTEL_TRACES_EXPORTER": "otlp"}
ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"

PLACES: dict[str, tuple[dict[str, str], str]] = {
    "nothing is said": ({}, "nowhere"),
    "the default": (OTLP, "http://localhost:4318"),
    "gRPC's default": ({**OTLP, PROTOCOL: "grpc"}, "http://localhost:4317"),
    "gRPC for this signal": ({**OTLP, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "http://localhost:4317"),
    "gRPC for another signal": ({**OTLP, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, "http://localhost:4318"),
    "without a scheme": ({**OTLP, PROTOCOL: "grpc", ENDPOINT: "collector:4317"}, "collector:4317"),
    "with a password": ({**OTLP, ENDPOINT: "https://me:secret@collector/under"}, "https://collector"),
    "no port": ({**OTLP, ENDPOINT: "http://collector:port"}, "http://collector"),
    "of this signal": (
        {**OTLP, ENDPOINT: "http://all:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:2"},
        "http://traces:2",
    ),
    "several": ({"OTEL_TRACES_EXPORTER": "console,otlp"}, "console,otlp"),
}


@pytest.mark.parametrize("case", PLACES)
def test_where_a_signal_goes(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    environ, place = PLACES[case]
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert sdk._destination("traces") == place
