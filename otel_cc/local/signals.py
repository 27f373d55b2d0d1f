"""What arrives over OTLP, as plain values: spans, points and log records, and how they are decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Attributes = dict[str, Any]

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


@dataclass(frozen=True)
class Event:
    """An event of a span; ``time`` in nanoseconds."""

    name: str
    time: int
    attributes: Attributes


@dataclass(frozen=True)
class Link:
    """A link of a span, with IDs in hex."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Span:
    """A span as it arrived: IDs in hex, times in nanoseconds, ``parent_id`` None for a root."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start: int
    end: int
    attributes: Attributes
    status: str = "UNSET"
    status_message: str = ""
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    scope: str = ""
    scope_version: str = ""
    resource: Attributes = field(default_factory=dict)
    trace_state: str = ""
    flags: int = 0

    @property
    def service(self) -> str:
        """``service.name`` of its resource."""
        return str(self.resource.get("service.name", ""))

    @property
    def duration(self) -> float:
        """Seconds."""
        return (self.end - self.start) / 1e9


@dataclass(frozen=True)
class Exemplar:
    """A single measurement kept beside a point, with the trace it was made in."""

    value: float
    time: int
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Point:
    """One data point of one export.

    :param kind: "gauge", "sum", "histogram" or "exponential_histogram"
    :param value: the number of a gauge or sum; the sum of a histogram
    :param temporality: "cumulative", "delta", or "" for gauges
    """

    name: str
    kind: str
    unit: str
    description: str
    attributes: Attributes
    value: float
    count: int = 0
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    min: float | None = None
    max: float | None = None
    monotonic: bool = False
    temporality: str = ""
    start: int = 0
    time: int = 0
    exemplars: tuple[Exemplar, ...] = ()
    scope: str = ""
    resource: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class LogRecord:
    """A log record as it arrived."""

    body: Any
    severity: str
    attributes: Attributes
    trace_id: str
    span_id: str
    time: int
    scope: str = ""
    resource: Attributes = field(default_factory=dict)


def decode_spans(body: bytes) -> Iterable[Span]:
    """The spans of an OTLP trace request."""
    return spans_of(ExportTraceServiceRequest.FromString(body))


def spans_of(request: ExportTraceServiceRequest) -> Iterable[Span]:
    """The spans of a decoded OTLP trace request."""
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Span(
                    name=span.name,
                    kind=_name(_KINDS, span.kind),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex() or None,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    status=_name(_STATUSES, span.status.code),
                    status_message=span.status.message,
                    events=tuple(Event(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
                    links=tuple(
                        Link(li.trace_id.hex(), li.span_id.hex(), _attributes(li.attributes)) for li in span.links
                    ),
                    scope=scope_spans.scope.name,
                    scope_version=scope_spans.scope.version,
                    resource=resource,
                    trace_state=span.trace_state,
                    flags=span.flags,
                )


def _name(names: tuple[str, ...], number: int) -> str:
    """An enum of protobuf is open: what a newer sender means by a number that we do not know is "unspecified" here."""
    return names[number] if 0 <= number < len(names) else names[0]


def decode_metrics(body: bytes) -> Iterable[Point]:
    """The points of an OTLP metrics request."""
    for resource_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        resource = _attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    continue
                data = getattr(metric, kind)
                for point in data.data_points:
                    yield Point(
                        name=metric.name,
                        kind=kind,
                        unit=metric.unit,
                        description=metric.description,
                        attributes=_attributes(point.attributes),
                        resource=resource,
                        scope=scope_metrics.scope.name,
                        monotonic=getattr(data, "is_monotonic", False),
                        temporality=("", "delta", "cumulative")[getattr(data, "aggregation_temporality", 0)],
                        start=point.start_time_unix_nano,
                        time=point.time_unix_nano,
                        exemplars=tuple(_exemplar(e) for e in getattr(point, "exemplars", ())),
                        **_numbers(kind, point),
                    )


def _numbers(kind: str, point: Any) -> dict[str, Any]:
    if kind in ("gauge", "sum"):
        return {"value": getattr(point, point.WhichOneof("value") or "as_int")}
    if kind == "summary":
        return {"value": point.sum, "count": point.count}
    extremes = {name: getattr(point, name) if point.HasField(name) else None for name in ("min", "max")}
    numbers = {"value": point.sum, "count": point.count, **extremes}
    if kind == "histogram":
        numbers |= {"bounds": tuple(point.explicit_bounds), "buckets": tuple(point.bucket_counts)}
    return numbers


def _exemplar(exemplar: Any) -> Exemplar:
    value = getattr(exemplar, exemplar.WhichOneof("value") or "as_int")
    attributes = _attributes(exemplar.filtered_attributes)
    return Exemplar(value, exemplar.time_unix_nano, exemplar.trace_id.hex(), exemplar.span_id.hex(), attributes)


def decode_logs(body: bytes) -> Iterable[LogRecord]:
    """The records of an OTLP logs request."""
    for resource_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield LogRecord(
                    body=_value(record.body),
                    severity=record.severity_text,
                    attributes=_attributes(record.attributes),
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    time=record.time_unix_nano,
                    scope=scope_logs.scope.name,
                    resource=resource,
                )


def _attributes(pairs: Any) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
