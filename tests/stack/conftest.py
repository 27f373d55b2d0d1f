"""The real programs behind the tests of the stack."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import prometheus as local_prometheus
from otel_cc.local.collector import Collector
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.prometheus import Prometheus
from otel_cc.local.sink import Sink

# A store that is away is asked again soon.
QUICK = {"OTEL_CC_RETRY_MAX_INTERVAL": "1s", "OTEL_CC_HOST_INTERVAL": "1h"}


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture(scope="module")
def module_processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running


@pytest.fixture
def collector(processes: Processes, sink: Sink) -> Collector:
    """A collector whose stores are both the sink."""
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
    return local_collector.start(processes, env=env)


@pytest.fixture(scope="module")
def prometheus(module_processes: Processes) -> Prometheus:
    return local_prometheus.start(module_processes)


@pytest.fixture(scope="module")
def to_prometheus(module_processes: Processes, prometheus: Prometheus) -> Collector:
    """A collector with a real Prometheus; there is no store for traces."""
    env = {**QUICK, "OTEL_CC_PROMETHEUS_URL": prometheus.url, "OTEL_CC_HOST_INTERVAL": "1s"}
    return local_collector.start(module_processes, env=env)


def query(prometheus: Prometheus, text: str, api: str = "query", **more: Any) -> list[dict[str, Any]]:
    """What Prometheus answers."""
    url = f"{prometheus.url}/api/v1/{api}?" + urllib.parse.urlencode({"query": text, **more})
    with urllib.request.urlopen(url, timeout=30) as answer:
        data = json.load(answer)["data"]
    return data["result"] if isinstance(data, dict) else data


def eventually(prometheus: Prometheus, text: str, timeout: float = 30) -> list[dict[str, Any]]:
    return wait_until(lambda: query(prometheus, text), timeout, f"a result of {text}")


def arrived(sink: Sink) -> Counter[int]:
    """How often each numbered span has arrived."""
    return Counter(int(span.span_id, 16) for span in sink.spans())


def drained(collector: Collector, timeout: float = 60, exporter: str = "otlp_http/traces") -> None:
    wait_until(lambda: collector.queued(exporter) == 0, timeout, f"an empty queue of {exporter}")
