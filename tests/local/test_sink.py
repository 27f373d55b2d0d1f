"""The OTLP receiver: what the SDK sends is what it gives back, and it plays the backends that refuse or never answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

from otel_cc.local import signals
from otel_cc.local.signals import Event, Span
from otel_cc.local.sink import Sink

RESOURCE = Resource({"service.name": "sender"})


def tracer_for(sink: Sink, compression: Compression = Compression.NoCompression) -> TracerProvider:
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{sink.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.mark.parametrize("compression", list(Compression))
def test_a_span_comes_back_as_it_was_sent(sink: Sink, compression: Compression) -> None:
    provider = tracer_for(sink, compression)
    tracer = provider.get_tracer("the scope", "1.2")
    parent = tracer.start_span("parent", kind=SpanKind.SERVER, start_time=1_000)
    other = SpanContext(trace_id=5, span_id=6, is_remote=False, trace_flags=TraceFlags(1))
    child = tracer.start_span(
        "child",
        context=set_span_in_context(parent),
        kind=SpanKind.CLIENT,
        attributes={"text": "ü", "number": 7, "share": 0.5, "yes": True, "list": ("a", "b")},
        links=[Link(other, {"why": "test"})],
        start_time=2_000,
    )
    child.add_event("exception", {"exception.type": "KeyError"}, timestamp=2_500)
    child.set_status(Status(StatusCode.ERROR, "no such key"))
    child.end(end_time=3_000_002_000)
    parent.end(end_time=4_000_000_000)
    provider.shutdown()

    received_child, received_parent = sink.wait_spans(2)
    trace_id = f"{parent.get_span_context().trace_id:032x}"
    assert received_child == Span(
        name="child",
        kind="CLIENT",
        trace_id=trace_id,
        span_id=f"{child.get_span_context().span_id:016x}",
        parent_id=received_parent.span_id,
        start=2_000,
        end=3_000_002_000,
        attributes={"text": "ü", "number": 7, "share": 0.5, "yes": True, "list": ["a", "b"]},
        status="ERROR",
        status_message="no such key",
        events=(Event("exception", 2_500, {"exception.type": "KeyError"}),),
        links=(signals.Link(f"{5:032x}", f"{6:016x}", {"why": "test"}),),
        scope="the scope",
        scope_version="1.2",
        resource={"service.name": "sender"},
        flags=received_child.flags,
    )
    assert received_parent.parent_id is None
    assert (received_parent.kind, received_parent.status, received_parent.service) == ("SERVER", "UNSET", "sender")
    assert received_child.duration == 3.0
    assert sink.requests == 2
    assert sink.exports[0].headers["content-type"] == "application/x-protobuf"


def test_points_come_back_with_the_newest_of_each_series(sink: Sink) -> None:
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{sink.endpoint}/v1/metrics"), export_interval_millis=1e9
    )
    provider = MeterProvider([reader], RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("the scope")
    counter = meter.create_counter("orders", unit="{order}", description="all orders")
    histogram = meter.create_histogram("wait", unit="s", explicit_bucket_boundaries_advisory=[1, 2])
    counter.add(1, {"article": "tea"})
    provider.force_flush()
    counter.add(2, {"article": "tea"})
    counter.add(5, {"article": "mug"})
    for seconds in (0.5, 1.5, 1.75):
        histogram.record(seconds)
    provider.shutdown()

    assert [p.value for p in sink.metrics()["orders"] if p.attributes == {"article": "tea"}] == [1, 3]
    assert {p.attributes["article"]: p.value for p in sink.latest("orders")} == {"tea": 3, "mug": 5}
    (tea,) = sink.wait_metric("orders", where=lambda point: point.attributes["article"] == "tea")
    assert (tea.kind, tea.unit, tea.description, tea.monotonic, tea.temporality) == (
        "sum", "{order}", "all orders", True, "cumulative",
    )  # fmt: skip
    (wait,) = sink.latest("wait")
    assert (wait.kind, wait.value, wait.count, wait.bounds, wait.buckets, wait.min, wait.max) == (
        "histogram", 3.75, 3, (1.0, 2.0), (1, 2, 0), 0.5, 1.75,
    )  # fmt: skip
    assert replace(wait, start=0, time=0).resource == {"service.name": "sender"}
    with pytest.raises(
        TimeoutError, match=r"no such point of other arrived within 0 s; metrics that came: \['orders', 'wait'\]"
    ):
        sink.wait_metric("other", timeout=0)


def post(sink: Sink, timeout: float = 30) -> int:
    return requests.post(f"{sink.endpoint}/v1/traces", b"", timeout=timeout).status_code


def test_it_can_refuse_and_recover(sink: Sink) -> None:
    sink.refuse()
    assert post(sink) == 503
    sink.accept()
    assert post(sink) == 200
    assert (sink.requests, len(sink.exports)) == (2, 1)


def test_it_can_swallow_requests_without_an_answer(sink: Sink) -> None:
    sink.black_hole()
    with pytest.raises(requests.Timeout):
        post(sink, timeout=0.3)
    sink.wait_requests(1)
    sink.accept()
    assert post(sink) == 200
    assert (sink.requests, len(sink.exports)) == (2, 1)


@pytest.mark.parametrize("mode", [Sink.accept, Sink.black_hole])
def test_it_stops_although_senders_keep_their_connections(mode: Callable[[Sink], None]) -> None:
    sink = Sink().start()
    with requests.Session() as session:
        session.post(f"{sink.endpoint}/v1/traces", b"", timeout=30)
        mode(sink)
        if mode is Sink.black_hole:
            with pytest.raises(requests.Timeout):
                session.post(f"{sink.endpoint}/v1/traces", b"", timeout=0.2)
        begin = time.monotonic()
        sink.stop()
        # The senders would keep them for ever.
        assert time.monotonic() - begin < 30
        with pytest.raises(requests.ConnectionError):
            session.post(f"{sink.endpoint}/v1/traces", b"", timeout=1)


def test_waiting_in_vain_lists_what_came(sink: Sink) -> None:
    provider = tracer_for(sink)
    provider.get_tracer("t").start_span("lonely", kind=SpanKind.CLIENT).end()
    with pytest.raises(TimeoutError) as error:
        sink.wait_spans(2, timeout=0.1)
    assert str(error.value) == "1 of 2 spans arrived within 0.1 s; all that came:\n    sender: lonely (CLIENT)"
    assert len(sink.wait_spans(1, where=lambda span: span.name == "lonely")) == 1
    sink.clear()
    assert (sink.spans(), sink.exports, sink.requests) == ([], [], 0)
    provider.shutdown()
