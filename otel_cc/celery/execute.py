"""The CONSUMER span of a task that runs, and its duration.

The span is a child of the publishing one, not linked to it: a task belongs to the request that asked for it, and one
trace shows the whole. (The conventions prefer a link for batches and allow a parent for single messages, which is all
that Celery has.) An eager task is a part of its caller: INTERNAL, and without a message's attributes.
"""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from otel_cc import guard, metrics
from otel_cc.celery import broker
from otel_cc.celery.values import text
from otel_cc.error_type import type_name
from otel_cc.tracing.tracer import get_tracer


class Runs:
    """Starts spans of running tasks; made when our producer is switched on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.celery")
        self.duration = metrics.histogram("messaging.process.duration")

    def start(self, task: Any, task_id: Any, request: dict[str, Any]) -> Run:
        """Start the span of a task and make it current; the context of its message is current already.

        :param request: the message headers as Celery's tracer gets them
        """
        name = task.name
        attributes: dict[str, Any] = {"celery.task.name": name}
        destination = system = None
        kind = SpanKind.INTERNAL
        if not request.get("is_eager"):
            kind = SpanKind.CONSUMER
            system = broker.system(task.app)
            attributes["messaging.system"] = system
            attributes["messaging.operation.name"] = attributes["messaging.operation.type"] = "process"
            delivery = request.get("delivery_info")
            destination = text(delivery.get("routing_key")) if isinstance(delivery, dict) else None
            if destination is not None:
                attributes["messaging.destination.name"] = destination
            message_id = text(task_id)
            if message_id is not None:
                attributes["messaging.message.id"] = message_id
        worker = request.get("hostname")
        if worker:
            attributes["celery.worker.name"] = worker
        retries = request.get("retries")
        if retries and isinstance(retries, int):
            attributes["celery.task.retries"] = retries
        span = self.tracer.start_span(f"run {name}", None, kind, attributes)
        # The caller's token undoes this too.
        inside = trace.set_span_in_context(span)
        otel_context.attach(inside)
        return Run(self, task, span, inside, system, destination)


class Run:
    """One execution of a task."""

    __slots__ = ("_destination", "_inside", "_runs", "_started", "_system", "_task", "span")

    def __init__(
        self, runs: Runs, task: Any, span: trace.Span, inside: Any, system: str | None, destination: str | None
    ) -> None:
        self._runs = runs
        self._task = task
        self.span = span
        self._inside = inside
        self._system = system
        self._destination = destination
        self._started = perf_counter()

    def returned(self, result: Any) -> None:
        """The tracer came back.

        :param result: its return value: the task's, what went wrong, and the runtime in seconds
        """
        try:
            value, info, seconds = result[:3]
            if info is not None:
                self._finish(info.state, info.retval)
            elif seconds is not None:
                self._finish("SUCCESS", None)
            elif hasattr(value, "exc_info"):
                # The message could not be made into a task at all.
                self._finish("FAILURE", value.exception)
            else:
                # A redelivered task that was done already (worker_deduplicate_successful_tasks).
                self._finish("IGNORED", None)
        except Exception:
            guard.failed("the span of a Celery task")

    def interrupted(self, error: BaseException) -> None:
        """The tracer raised: the task was interrupted, or an eager task hands its exception to the caller."""
        try:
            from celery.exceptions import Ignore, Reject, Retry

            if isinstance(error, Retry):
                self._finish("RETRY", error)
            elif isinstance(error, (Ignore, Reject)):
                self._finish("REJECTED" if isinstance(error, Reject) else "IGNORED", None)
            else:
                self._finish("FAILURE" if isinstance(error, Exception) else "LOST", error)
        except Exception:
            guard.failed("the span of a Celery task")

    def _finish(self, state: str, error: BaseException | None) -> None:
        seconds = perf_counter() - self._started
        failed = state in ("FAILURE", "LOST")
        if state == "RETRY":
            # Retry is Celery's way to say it; the reason is what the task raised.
            error = getattr(error, "exc", None)
        # billiard wraps what crosses processes.
        error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
        error_type = type_name(type(error)) if failed and isinstance(error, BaseException) else None
        if self._system is not None:
            self._runs.duration.record(
                seconds,
                _metric_attributes(self._system, self._task.name, self._destination, state, error_type),
                self._inside,
            )
        span = self.span
        if span.is_recording():
            ending: dict[str, Any] = {"celery.task.state": state}
            if error_type is not None:
                ending["error.type"] = error_type
            elif state == "RETRY" and isinstance(error, BaseException):
                ending["celery.task.retry.reason"] = type_name(type(error))
            span.set_attributes(ending)
            if failed and not _expected(self._task, error):
                span.set_status(StatusCode.ERROR)
                if isinstance(error, BaseException):
                    span.record_exception(error)
        span.end()


def _expected(task: Any, error: object) -> bool:
    """Whether the task declares this exception as a normal result (``throws``)."""
    throws = getattr(task, "throws", None)
    return isinstance(error, throws) if throws else False


@lru_cache(maxsize=4096)
def _metric_attributes(
    system: str, task: str, destination: str | None, state: str, error_type: str | None
) -> dict[str, str]:
    """The attributes of a duration; one dict for each combination."""
    attributes = {
        "messaging.system": system,
        "messaging.operation.name": "process",
        "celery.task.name": task,
        "celery.task.state": state,
    }
    if destination is not None:
        attributes["messaging.destination.name"] = destination
    if error_type is not None:
        attributes["error.type"] = error_type
    return attributes
