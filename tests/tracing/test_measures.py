"""What the export of spans tells of itself adds up to the spans that ended, whatever became of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_cc.local.process import wait_until
from otel_cc.local.sink import Sink
from otel_cc.otlp.exporters import queue_for
from otel_cc.tracing.processor import SpanQueue

Found = dict[str, dict[str, float]]


class Reader:
    """What a collection shows: by name, then by error type, values or counts."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def points(self) -> Iterator[tuple[str, Any]]:
        # The first collection shows a new series of a counter as zero.
        self.reader.collect()
        self.reader.get_metrics_data()
        self.reader.collect()
        data = self.reader.get_metrics_data()
        assert data is not None
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield from ((metric.name, point) for point in metric.data.data_points)

    def read(self) -> Found:
        found: Found = {}
        for name, point in self.points():
            short = name.removeprefix("otel.sdk.")
            key = str((point.attributes or {}).get("error.type", ""))
            found.setdefault(short, {})[key] = getattr(point, "count", None) or getattr(point, "value", 0)
        return found


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    made = Reader()
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: made.provider)
    # What is exported in one request is for the tests to say.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    yield made
    made.provider.shutdown()


def end(queue: SpanQueue, spans: int, threads: int = 1) -> None:
    """End spans, in several threads at once."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(queue)
    tracer = provider.get_tracer("t")

    def work() -> None:
        for _ in range(spans // threads):
            tracer.start_span("s").end()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


class Held(SpanExporter):
    """Exports when it is let."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.has: Sequence[ReadableSpan] = ()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has = spans
        assert self.answer.wait(60)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_every_ended_span_is_in_exactly_one_count(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    exporter = Held()
    queue = SpanQueue(exporter)
    # A flush that waits in the queue is no span.
    end(queue, 10)
    done = queue.request_flush()
    wait_until(lambda: exporter.has, 30, "the first batch")
    end(queue, 990, threads=3)
    found = reader.read()
    assert found["processor.span.queue.capacity"] == {"": 100}
    waiting, in_flight = found["processor.span.queue.size"][""], found["exporter.span.inflight"][""]
    processed = found["processor.span.processed"]
    assert waiting + sum(processed.values()) == 1000
    assert in_flight == processed[""] == len(exporter.has)
    assert processed["queue_full"] > 800
    assert found["exporter.span.exported"] == {"": 0}

    exporter.answer.set()
    assert done.wait(60)
    assert queue.force_flush(10_000)
    found = reader.read()
    assert (found["processor.span.queue.size"], found["exporter.span.inflight"]) == ({"": 0}, {"": 0})
    assert found["exporter.span.exported"] == {"": 1000 - processed["queue_full"]}
    assert found["exporter.operation.duration"][""] >= (1000 - processed["queue_full"]) / 10

    queue.shutdown()
    end(queue, 5)
    assert reader.read()["processor.span.processed"]["already_shutdown"] == 5


@pytest.mark.parametrize(
    ("result", "kind"),
    [(SpanExportResult.FAILURE, "_OTHER"), (OSError("no network"), "OSError")],
)
def test_what_the_exporter_fails_to_export_is_told(reader: Reader, result: Any, kind: str) -> None:
    exporter = Held()
    exporter.answer.set()
    exporter.result = result
    queue = SpanQueue(exporter)
    end(queue, 7)
    queue.force_flush(30_000)
    found = reader.read()
    assert found["exporter.span.exported"] == {"": 0, kind: 7}
    assert found["exporter.operation.duration"] == {kind: 1}


def test_the_answer_of_the_backend_is_the_type_of_the_error(reader: Reader, sink: Sink) -> None:
    endpoint = f"{sink.endpoint}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=60)
    # Before 1.45 the exporter does not tell.
    kind = "400" if hasattr(exporter, "_client") else "_OTHER"
    queue = queue_for(exporter)
    end(queue, 3)
    assert queue.force_flush(30_000)
    # For good: it is not tried again.
    sink.refuse(400)
    end(queue, 2)
    assert queue.force_flush(30_000)
    points = dict(reader.points())
    assert reader.read()["exporter.span.exported"] == {"": 3, kind: 2}
    attributes = dict(points["otel.sdk.exporter.span.inflight"].attributes)
    name = attributes.pop("otel.component.name")
    assert name.startswith("otlp_http_span_exporter/")
    assert attributes == {
        "otel.component.type": "otlp_http_span_exporter",
        "server.address": "127.0.0.1",
        "server.port": sink.port,
    }


def test_the_sdks_own_metrics_of_the_exporter_are_not_doubled(
    reader: Reader, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    exporter = OTLPSpanExporter(endpoint=f"{sink.endpoint}/v1/traces", meter_provider=reader.provider)
    queue = queue_for(exporter)
    end(queue, 3)
    assert queue.force_flush(30_000)
    exported = [point.value for name, point in reader.points() if name == "otel.sdk.exporter.span.exported"]
    assert exported == [3]


# The thread that exports is one: servers fork with it, too.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_counts_its_own(reader: Reader) -> None:
    exporter = Held()
    exporter.answer.set()
    queue = SpanQueue(exporter)
    end(queue, 5)
    assert queue.force_flush(30_000)
    end(queue, 2)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            queue.after_fork()
            end(queue, 1)
            queue.force_flush(30_000)
            found = reader.read()
            os.write(send, repr([found["processor.span.processed"][""], found["exporter.span.exported"]]).encode())
        finally:
            # Whatever happens, no second pytest goes on.
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        assert pipe.read() == "[1, {'': 1}]"
    os.waitpid(child, 0)
