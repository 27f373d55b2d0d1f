"""The collector's load: everything that was acknowledged arrives, and the table says what was missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import load
from otel_cc.local import programs


@pytest.mark.programs
def test_what_was_acknowledged_has_arrived() -> None:
    found = load.measure(2_000, 1.5)
    assert found.sent == found.received == found.distinct > 0
    assert 0 < found.cpu < 1.1
    assert 20 < found.rss_mb < load.TARGET["rss_mb"]


@pytest.mark.programs
def test_the_collector_is_smaller_than_100_mb() -> None:
    assert Path(programs.find("otelcol-cc")).stat().st_size < 100e6


def test_a_batch_is_what_applications_send() -> None:
    request = load.ExportTraceServiceRequest.FromString(load.body(1))
    spans = request.resource_spans[0].scope_spans[0].spans
    assert len(spans) == load.BATCH
    assert len({span.span_id for span in spans}) == load.BATCH
    assert len({span.trace_id for span in spans}) == load.BATCH / 4


def test_a_batch_is_sent_again_with_trace_ids_of_its_own() -> None:
    encoded = load.body(1)
    first, second = (load.ExportTraceServiceRequest.FromString(load.fresh(encoded)) for _ in range(2))
    spans = [list(request.resource_spans[0].scope_spans[0].spans) for request in (first, second)]
    assert not {span.trace_id for span in spans[0]} & {span.trace_id for span in spans[1]}
    for span in spans[0]:
        identifier = next(one.value.string_value for one in span.attributes if one.key == "request.id")
        assert identifier == span.trace_id.hex()


def test_a_target_that_is_missed_is_marked() -> None:
    found = [
        load.Measured(0, 21_000, 1.0, 90, 100, 100, 100, 0.1),
        load.Measured(10_000, 10_000, 0.5, 90, 100, 99, 99, 0.1),
        load.Measured(10_000, 10_000, 0.5, 90, 100, 100, 99, 0.1),
        load.Measured(20_000, 13_000, 0.9, 90, 100, 100, 100, 0.1),
        load.Measured(0, 19_000, 1.0, 90, 100, 100, 100, 0.1),
    ]
    assert [one.met for one in found] == [True, False, False, False, False]
    assert [line.endswith("MISSED") for line in load.text(found).splitlines()[3:8]] == [not one.met for one in found]
