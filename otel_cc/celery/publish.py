"""The PRODUCER span of a task that is sent, its duration, and that it was sent.

Everything that publishes a task ends in ``Celery.send_task``: ``delay``, ``apply_async``, ``retry``, chains, groups,
chords, links, beat and ``send_task`` itself. It is wrapped from outside, so that the span ends also when the broker is
down; contrib's span would then stay the current one for the rest of the request, and one for a name that is not
registered here would end by garbage collection. The span is made when Celery has routed the message
(``before_task_publish``), because only then everything about it is known; its start is the start of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache, wraps
from time import perf_counter, time_ns
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from otel_cc import guard, metrics
from otel_cc.celery import broker, monitor
from otel_cc.celery.values import destination_of, text
from otel_cc.error_type import type_name
from otel_cc.tracing.tracer import get_tracer

_running: ContextVar[Publish | None] = ContextVar("otel_cc.celery.publish", default=None)


class Publishes:
    """Starts PRODUCER spans and measures; made when our producer is switched on.

    :param spans: False only measures: contrib makes the spans, and no metrics of them
    """

    def __init__(self, *, spans: bool = True) -> None:
        self.tracer = get_tracer("otel_cc.celery") if spans else None
        self.duration = metrics.histogram("messaging.client.operation.duration")
        self.sent = metrics.counter("messaging.client.sent.messages")

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``Celery.send_task`` with a span and a duration."""

        @wraps(original)
        def send_task(app: Any, *args: Any, **kwargs: Any) -> Any:
            publish = Publish(self, app, args[0] if args else kwargs.get("name"))
            slot = _running.set(publish)
            try:
                result = original(app, *args, **kwargs)
            except BaseException as error:
                publish.finish(error)
                raise
            else:
                publish.finish(None)
                return result
            finally:
                _running.reset(slot)

        return send_task

    def start(self, headers: dict[str, Any], body: Any, routing_key: Any) -> None:
        """Start the span of the publish that is under way; its message is ready to be sent now."""
        publish = _running.get()
        if publish is not None and publish.span is None:
            # Protocol 1 has the ID in the body.
            task_id = headers.get("id") or (body.get("id") if isinstance(body, dict) else None)
            publish.start(destination_of(routing_key), text(task_id))


class Publish:
    """One call of ``send_task``."""

    __slots__ = ("_app", "_destination", "_publishes", "_started", "_started_ns", "_task", "_token", "span")

    def __init__(self, publishes: Publishes, app: Any, task: Any) -> None:
        self._publishes = publishes
        self._app = app
        self._task = task if isinstance(task, str) else str(task)
        self._destination: str | None = None
        self._token: Any = None
        self.span: trace.Span | None = None
        self._started_ns = time_ns()
        self._started = perf_counter()

    def start(self, destination: str | None, task_id: str | None) -> None:
        """Start the span and make it current, so that what is sent with the message is its context.

        :param destination: see :func:`~otel_cc.celery.values.destination_of`
        """
        self._destination = destination
        tracer = self._publishes.tracer
        if tracer is None:
            return
        attributes: dict[str, Any] = {
            "messaging.system": broker.system(self._app),
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "celery.task.name": self._task,
        }
        if destination is not None:
            attributes["messaging.destination.name"] = destination
        if task_id is not None:
            attributes["messaging.message.id"] = task_id
        self.span = tracer.start_span(
            f"publish {self._task}", None, SpanKind.PRODUCER, attributes, start_time=self._started_ns
        )
        self._token = otel_context.attach(trace.set_span_in_context(self.span))

    def finish(self, error: BaseException | None) -> None:
        """End the span, also that of a message that never came to be, and record the duration."""
        try:
            seconds = perf_counter() - self._started
            if self.span is None and self._destination is None:
                self.start(None, None)
            error_type = None if error is None else type_name(type(error))
            # Anybody may choose the name of a task and of a queue.
            labels = _labels(
                broker.system(self._app),
                metrics.bounded("celery.task.name", self._task),
                self._destination and metrics.bounded("messaging.destination.name", self._destination),
                error_type and metrics.bounded("error.type", error_type),
            )
            self._publishes.duration.record(seconds, labels)
            self._publishes.sent.add(1, labels)
            span = self.span
            if span is not None and error is not None and span.is_recording():
                span.set_attribute("error.type", type_name(type(error)))
                span.set_status(StatusCode.ERROR)
                span.record_exception(error)
        except Exception:
            guard.failed("the span of a published Celery task")
        finally:
            # Also when an exception of the application cannot say what it is.
            if self.span is not None:
                self.span.end()
            if self._token is not None:
                otel_context.detach(self._token)
        monitor.published(self._app)


@lru_cache(maxsize=4096)
def _labels(system: str, task: str, destination: str | None, error_type: str | None) -> dict[str, str]:
    """The attributes of a measurement; one dict for each combination."""
    attributes = {"messaging.system": system, "messaging.operation.name": "publish", "celery.task.name": task}
    if destination is not None:
        attributes["messaging.destination.name"] = destination
    if error_type is not None:
        attributes["error.type"] = error_type
    return attributes
