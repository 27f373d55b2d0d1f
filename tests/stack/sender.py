"""A sender that knows what it sent: every item has a number, and what counts is what was acknowledged."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

CUMULATIVE, DELTA = 2, 1
INFO, ERROR = 9, 17


def value(given: Any) -> AnyValue:
    if isinstance(given, list):
        return AnyValue(array_value=ArrayValue(values=[value(one) for one in given]))
    if isinstance(given, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(given)))
    return AnyValue(int_value=given) if isinstance(given, int) else AnyValue(string_value=given)


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(one)) for key, one in attributes.items()]


def post(port: int, path: str, body: bytes, headers: Mapping[str, str] | None = None, timeout: float = 30) -> int:
    """The status of the answer, 0 without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/x-protobuf", **(headers or {})})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def spans(first: int, count: int, attributes: Mapping[str, Any] | None = None, service: str = "sender") -> Any:
    """A request with spans whose IDs are ``first`` and the numbers after it; one trace."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(pairs({"service.name": service, "service.instance.id": "s1"}))
    scope = resource.scope_spans.add()
    now = time.time_ns()
    for number in range(first, first + count):
        span = scope.spans.add(
            trace_id=first.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="work",
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1000,
        )
        span.attributes.extend(pairs(attributes or {}))
    return request


def metrics(service: str, *given: Metric, instance: str = "i1") -> Any:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(
        pairs({"service.name": service, "service.namespace": "test", "service.instance.id": instance})
    )
    resource.scope_metrics.add().metrics.extend(given)
    return request


def counter(name: str, number: float, *, at: int = 0, temporality: int = CUMULATIVE, **attributes: str) -> Metric:
    """A sum with one point; ``at`` in ns, 0 is now."""
    metric = Metric(name=name)
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = temporality
    now = at or time.time_ns()
    point = metric.sum.data_points.add(as_double=number, time_unix_nano=now, start_time_unix_nano=now - 10**9)
    point.attributes.extend(pairs(attributes))
    return metric


def log(
    body: Any, attributes: Mapping[str, Any] | None = None, *, service: str = "sender", severity: int = ERROR
) -> Any:
    """A request with one log record."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    record = resource.scope_logs.add().log_records.add(severity_number=severity, time_unix_nano=time.time_ns())
    record.body.CopyFrom(value(body))
    record.attributes.extend(pairs(attributes or {}))
    return request


class Sender:
    """Sends batches of spans until it is stopped and repeats each one until it is acknowledged, as an SDK does.

    :param port: of the collector's OTLP/HTTP receiver
    :param batch: spans in a request
    :param pause: seconds between two requests of one thread
    """

    def __init__(self, port: int, *, batch: int = 50, pause: float = 0.02, threads: int = 2) -> None:
        self._port, self._batch, self._pause = port, batch, pause
        self._next = 1
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.acknowledged: set[int] = set()
        self.repeated = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Sender:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        while not self._end.is_set():
            with self._lock:
                first, self._next = self._next, self._next + self._batch
            body = spans(first, self._batch).SerializeToString()
            while (status := post(self._port, "/v1/traces", body)) != 200 and not self._end.is_set():
                self.repeated += 1
                self._end.wait(0.1)
            if status == 200:
                with self._lock:
                    self.acknowledged.update(range(first, first + self._batch))
            self._end.wait(self._pause)
