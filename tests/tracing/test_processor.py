"""Ended spans reach the exporter: in batches, in time, and none twice."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_cc.tracing.processor import SpanQueue


class Exporter(SpanExporter):
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.answer = threading.Event()
        self.answer.set()
        self.fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answer.wait()
        self.batches.append(len(spans))
        if self.fails:
            raise OSError("no network")
        return SpanExportResult.SUCCESS


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def end(provider: TracerProvider, count: int) -> None:
    tracer = provider.get_tracer("t")
    for _ in range(count):
        tracer.start_span("s").end()


def provider(exporter: Exporter, monkeypatch: pytest.MonkeyPatch, **settings: int) -> tuple[TracerProvider, SpanQueue]:
    for name, value in settings.items():
        monkeypatch.setenv(f"OTEL_BSP_{name}", str(value))
    queue = SpanQueue(exporter)
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(queue)
    return made, queue


def test_a_flush_exports_everything_that_has_ended(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    made, queue = provider(exporter, monkeypatch, SCHEDULE_DELAY=60000, MAX_EXPORT_BATCH_SIZE=10)
    end(made, 25)
    assert queue.force_flush(30_000)
    assert sum(exporter.batches) == 25
    assert max(exporter.batches) <= 10
    assert not queue.pending


def test_a_flush_keeps_to_its_time(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    made, queue = provider(exporter, monkeypatch)
    exporter.answer.clear()
    end(made, 1)
    started = time.monotonic()
    assert not queue.force_flush(200)
    # The exporter would hold it for ever.
    assert 0.15 < time.monotonic() - started < 10
    exporter.answer.set()
    assert queue.force_flush(30_000)
    assert exporter.batches == [1]


def test_the_delay_exports_without_a_flush(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = provider(exporter, monkeypatch, SCHEDULE_DELAY=50)
    end(made, 3)
    deadline = time.monotonic() + 30
    while sum(exporter.batches) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum(exporter.batches) == 3


def test_a_full_queue_drops_and_says_so(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, queue = provider(exporter, monkeypatch, MAX_QUEUE_SIZE=5, MAX_EXPORT_BATCH_SIZE=5)
    exporter.answer.clear()
    # The thread takes one batch out and waits for the exporter with it.
    end(made, 30)
    with caplog.at_level(logging.WARNING):
        end(made, 1)
    exporter.answer.set()
    assert queue.force_flush(30_000)
    assert sum(exporter.batches) + queue.dropped["queue_full"] == 31
    assert queue.dropped["queue_full"] >= 20


def test_a_failing_exporter_costs_its_batch_only(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    made, queue = provider(exporter, monkeypatch)
    exporter.fails = True
    end(made, 1)
    assert queue.force_flush(30_000)
    exporter.fails = False
    end(made, 1)
    assert queue.force_flush(30_000)
    assert exporter.batches == [1, 1]


def test_unsampled_spans_are_not_queued_and_start_no_thread(exporter: Exporter) -> None:
    queue = SpanQueue(exporter)
    made = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    made.add_span_processor(queue)
    end(made, 1)
    assert queue._thread is None
    assert not queue.pending


def test_a_forked_child_starts_with_nothing_and_exports_its_own(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, queue = provider(exporter, monkeypatch, SCHEDULE_DELAY=60000)
    end(made, 3)
    queue.after_fork()
    assert not queue.pending
    end(made, 1)
    assert queue.force_flush(30_000)
    assert exporter.batches[-1] == 1


@pytest.mark.parametrize("value", ["nonsense", "0", "-5", ""])
def test_a_broken_number_is_replaced_by_the_default(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", value)
    assert SpanQueue(exporter).limit == 2048
    assert ("OTEL_BSP_MAX_QUEUE_SIZE" in caplog.text) == bool(value)
    assert os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] == value
