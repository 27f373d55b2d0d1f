"""The entrance in this process, around an ASGI application of a test, and what it measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import opentelemetry.metrics
import opentelemetry.trace
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cc import lifecycle
from otel_cc.http.asgi import Entrance
from otel_cc.http.measures import Measures
from otel_cc.http.span import ServerSpans

# A provider is known by its identity: none must be forgotten.
_providers: list[object] = []

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}


def responds(status: int = 200, *chunks: bytes) -> list[dict[str, Any]]:
    """The messages of a response."""
    parts = [{"type": "http.response.body", "body": chunk, "more_body": True} for chunk in chunks]
    return [{**START, "status": status}, *parts, END]


class Client:
    """What a server hands to an application: the messages of a client, and a place for the answers."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.answers: list[Any] = []
        self.disconnected = False
        self.breaks: BaseException | None = None

    async def receive(self) -> Any:
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        if self.breaks is not None:
            raise self.breaks
        self.answers.append(message)


class Measured:
    """The entrance, and what it measured so far."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        _providers.extend((self.meters, self.tracers))

    def open(self) -> None:
        self.entrance = Entrance()
        self.entrance.measures = self.measures = Measures()
        self.entrance.spans = ServerSpans()

    async def __call__(self, app: Callable[..., Any], client: Client | None = None, **scope: Any) -> Client:
        """Serve one request, as a server would."""
        client = client or Client()

        async def call(_: Any, scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        given = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "http_version": "1.1",
            "path": "/raw/path",
            "headers": [],
            "client": ("127.0.0.1", 50000),
            **scope,
        }
        await self.entrance.wrap(call)(object(), given, client.receive, client.send)
        return client

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and values (of a histogram: count and sum) of one metric; new series of counters are announced."""
        for _ in range(2):
            data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes), (point.count, point.sum) if hasattr(point, "count") else point.value)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counts(self, name: str, *labels: str) -> dict[tuple[Any, ...], float]:
        """How many, by some labels."""
        found: dict[tuple[Any, ...], float] = {}
        for attributes, value in self.points(name):
            key = tuple(attributes.get(label) for label in labels)
            found[key] = found.get(key, 0) + (value[0] if isinstance(value, tuple) else value)
        return found

    def errors(self) -> dict[tuple[Any, ...], float]:
        return self.counts("commandcenter.errors", "endpoint", "status_code", "error_type")

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


@contextmanager
def measuring(patch: pytest.MonkeyPatch) -> Iterator[Measured]:
    measured = Measured()
    patch.setattr(opentelemetry.metrics, "get_meter_provider", lambda: measured.meters)
    patch.setattr(opentelemetry.trace, "get_tracer_provider", lambda: measured.tracers)
    patch.setenv("OTEL_CC_STRICT", "true")
    # The test session does not serve.
    patch.setattr(lifecycle, "serving", lambda kind: None)
    measured.open()
    yield measured
    measured.measures.close()
    measured.meters.shutdown()
