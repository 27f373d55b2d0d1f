"""The CONSUMER span of a task that runs, in the process that runs it; outcome.py counts it and its duration.

The span is a child of the publishing one, not linked to it: a task belongs to the request that asked for it, and one
trace shows the whole. (The conventions prefer a link for batches and allow a parent for single messages, which is all
that Celery has.) An eager task is a part of its caller: INTERNAL, and without a message's attributes.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode

from otel_cc import guard
from otel_cc.celery import broker
from otel_cc.celery.failure import unwrapped
from otel_cc.celery.values import destination_of, text
from otel_cc.error_type import type_name
from otel_cc.tracing.tracer import get_tracer


class Runs:
    """Starts spans of running tasks; made when our producer is switched on."""

    def __init__(self) -> None:
        self.tracer = get_tracer("otel_cc.celery")

    def start(self, task: Any, task_id: Any, request: dict[str, Any]) -> Run:
        """Start the span of a task and make it current; the context of its message is current already.

        :param request: the message headers as Celery's tracer gets them
        """
        kind = SpanKind.INTERNAL if request.get("is_eager") else SpanKind.CONSUMER
        span = self.tracer.start_span(f"run {task.name}", None, kind, _attributes(task, task_id, request))
        # The caller's token undoes this too.
        otel_context.attach(trace.set_span_in_context(span))
        return Run(task, span)

    def stand_in(self, request: Any, context: Context, started: int, state: str, error: BaseException) -> None:
        """The span of a run whose process was killed and could not deliver it, made by the worker's main process.

        :param request: Celery's Request
        :param context: that of the message
        :param started: Unix time in nanoseconds
        :param error: what the pool says about the end of the child
        """
        attributes = _attributes(request.task, request.id, request.request_dict)
        attributes.update({"celery.task.synthetic": True, "celery.task.state": state})
        attributes["error.type"] = type_name(type(error))
        name = f"run {request.task.name}"
        span = self.tracer.start_span(name, context, SpanKind.CONSUMER, attributes, start_time=started)
        if span.is_recording():
            span.set_status(StatusCode.ERROR)
            span.record_exception(error)
        span.end()


def _attributes(task: Any, task_id: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run at its start."""
    attributes: dict[str, Any] = {"celery.task.name": task.name}
    if not request.get("is_eager"):
        attributes["messaging.system"] = broker.system(task.app)
        attributes["messaging.operation.name"] = attributes["messaging.operation.type"] = "process"
        delivery = request.get("delivery_info")
        destination = destination_of(delivery.get("routing_key")) if isinstance(delivery, dict) else None
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
    return attributes


class Run:
    """One execution of a task."""

    __slots__ = ("_task", "span")

    def __init__(self, task: Any, span: trace.Span) -> None:
        self._task = task
        self.span = span

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
        failed = state in ("FAILURE", "LOST")
        if state == "RETRY":
            # Retry is Celery's way to say it; the reason is what the task raised.
            error = getattr(error, "exc", None)
        error = unwrapped(error)
        error_type = type_name(type(error)) if failed and isinstance(error, BaseException) else None
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
