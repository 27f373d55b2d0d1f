"""The benchmark's OTLP sink, as a process, against the real exporter."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import benchmarks


@pytest.fixture
def sink() -> Iterator[str]:
    program = Path(benchmarks.__file__).with_name("sink.py")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()


def _taken(endpoint: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{endpoint}/taken", timeout=30) as answer:
        found: dict[str, int] = json.load(answer)
    return found


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_it_counts_the_spans_of_each_process_once(sink: str, compression: Compression) -> None:
    for name, count in (("p1", 3), ("p2", 1)):
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{sink}/{name}/v1/traces", compression=compression)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for _ in range(count):
            provider.get_tracer("test").start_span("work").end()
        provider.shutdown()

    first, second, again = _taken(f"{sink}/p1"), _taken(f"{sink}/p2"), _taken(f"{sink}/p1")

    assert [first["spans"], second["spans"], again] == [3, 1, {"spans": 0, "distinct": 0, "bytes": 0}]
    assert first["bytes"] > second["bytes"] > 50
