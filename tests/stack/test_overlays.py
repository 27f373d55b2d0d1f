"""What the overlays for pulling and for sampling do."""

from __future__ import annotations

import urllib.request

from otel_cc.local import collector as local_collector
from otel_cc.local.process import Processes, free_port, wait_until
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK
from tests.stack.sender import counter, metrics, post, spans


def test_pull_shows_the_same_names_with_job_and_instance(processes: Processes, sink: Sink) -> None:
    port = free_port()
    env = {**QUICK, "OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_COLLECTOR_PULL_PORT": str(port)}
    collector = local_collector.start(processes, overlays=["local", "pull"], env=env)
    point = counter("commandcenter.errors", 3, endpoint="/orders")
    assert post(collector.http_port, "/v1/metrics", metrics("shop", point).SerializeToString()) == 200

    def line() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            found = [
                one for one in answer.read().decode().splitlines() if one.startswith("commandcenter_errors_total{")
            ]
        return found[0] if found else ""

    assert wait_until(line, 30) == 'commandcenter_errors_total{endpoint="/orders",instance="i1",job="test/shop"} 3'


def test_tail_sampling_keeps_errors_slow_spans_and_retries(processes: Processes, sink: Sink) -> None:
    env = {
        **QUICK,
        "OTEL_CC_TRACES_URL": sink.endpoint,
        "OTEL_CC_PROMETHEUS_URL": sink.endpoint,
        "OTEL_CC_TAIL_WAIT": "1s",
        "OTEL_CC_TAIL_PERCENT": "0",
    }
    collector = local_collector.start(processes, overlays=["local", "tail-sampling"], env=env)
    plain, error, slow, retry = spans(1, 1), spans(2, 1), spans(3, 1), spans(4, 1, {"celery.task.retries": 1})
    error.resource_spans[0].scope_spans[0].spans[0].status.code = 2
    slow.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano += 2 * 10**9
    for request in (plain, error, slow, retry):
        assert post(collector.http_port, "/v1/traces", request.SerializeToString()) == 200
    assert sorted(int(span.span_id, 16) for span in sink.wait_spans(3)) == [2, 3, 4]
    wait_until(lambda: collector.total("otelcol_processor_tail_sampling_global_count_traces_sampled_total") == 4, 30)
    assert len(sink.spans()) == 3
