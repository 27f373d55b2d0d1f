"""The real stores are killed and come back: what was acknowledged meanwhile is in them."""

from __future__ import annotations

import json
import threading
import time
import urllib.request

import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import jaeger as local_jaeger
from otel_cc.local import prometheus as local_prometheus
from otel_cc.local.process import Processes, wait_until
from tests.stack.conftest import QUICK, drained, query
from tests.stack.sender import counter, metrics, post, spans

# Seconds: as long as the promise says, because most of it is waiting.
OUTAGE = 120


@pytest.mark.timeout(OUTAGE + 300)
def test_nothing_is_lost_while_jaeger_and_prometheus_are_dead(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    jaeger = local_jaeger.start(processes)
    prometheus = local_prometheus.start(processes)
    env = {**QUICK, "OTEL_CC_TRACES_URL": jaeger.otlp, "OTEL_CC_PROMETHEUS_URL": prometheus.url}
    collector = local_collector.start(processes, env=env)
    traces: set[int] = set()
    samples: dict[int, float] = {}
    end = threading.Event()

    def send() -> None:
        number = 1
        while not end.is_set():
            if post(collector.http_port, "/v1/traces", spans(number, 20).SerializeToString()) == 200:
                traces.add(number)
            now = time.time_ns() // 10**6 * 10**6
            request = metrics("outage", counter("sent.items", number, at=now))
            if post(collector.http_port, "/v1/metrics", request.SerializeToString()) == 200:
                samples[now // 10**6] = number
            number += 20
            end.wait(0.1)

    def goes_on(seconds: float) -> None:
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > seconds, seconds + 60)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        goes_on(2)
        jaeger.process.kill()
        prometheus.process.kill()
        goes_on(OUTAGE)
        local_jaeger.start(processes, port=jaeger.port, otlp_port=jaeger.otlp_port)
        local_prometheus.start(processes, port=prometheus.port)
        goes_on(2)
    finally:
        end.set()
        thread.join()
    drained(collector, 120, "")
    found = query(prometheus, f"sent_items_total[{OUTAGE + 600}s]")
    there = {round(float(at) * 1000): float(number) for series in found for at, number in series["values"]}
    lost_samples = {at for at, number in samples.items() if there.get(at) != number}
    stored = {number: _spans(jaeger.url, number) for number in traces}
    lost_spans = sum(20 - len(set(ids)) for ids in stored.values())
    twice = sum(len(ids) - len(set(ids)) for ids in stored.values())
    with capsys.disabled():
        print(
            f"\n  Jaeger and Prometheus killed for {OUTAGE} s: {20 * len(traces)} spans acknowledged, {lost_spans} lost, "
            f"{twice} duplicates; {len(samples)} samples acknowledged, {len(lost_samples)} lost",
            end="",
        )
    assert len(traces) > OUTAGE
    assert not lost_spans
    assert not lost_samples


def _spans(url: str, trace: int) -> list[str]:
    with urllib.request.urlopen(f"{url}/api/traces/{trace:032x}", timeout=30) as answer:
        return [span["spanID"] for one in json.load(answer)["data"] for span in one["spans"]]
