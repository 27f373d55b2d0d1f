"""What a Celery message carries: the request ID under a key of its own, and the trace context and baggage.

The keys sit at the top level of the message headers, where every worker since Celery 5.2 finds them, for protocol 2 as
for protocol 1. No key is the name of an attribute of Celery's request (``id``, ``correlation_id``, ...): it would be
overwritten. Messages come from anybody who can reach the broker: what is read here is as untrusted as an HTTP header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from otel_cc import guard, request_id
from otel_cc.context import Correlation, current, with_correlation

REQUEST_ID = "otel_cc_request_id"
# asgi-correlation-id before 5.0: a producer that still has it says its request ID here.
FOREIGN_REQUEST_ID = "CORRELATION_ID"


class TaskCorrelation(Correlation):
    """The identity of a running task: its request's, and the name of the task.

    :param tags: what :meth:`tags` returns, made once per task
    """

    __slots__ = ("_tags",)

    def __init__(self, request_id: str, trace_id: int, tags: Mapping[str, str]) -> None:
        super().__init__(request_id, trace_id)
        self._tags = tags

    def tags(self) -> Mapping[str, str]:
        return self._tags


def tags(task: Any) -> dict[str, str]:
    """The tags of a task, see :class:`TaskCorrelation`."""
    from celery import __version__ as version

    return {"task": task.name, "framework": f"celery:{version}"}


def write(headers: dict[str, Any], context: Context | None = None) -> None:
    """Put the IDs of ``context`` (default: the current one) into the headers of a message.

    :param headers: what will be sent; on a retry it has the fields of the first message, which are replaced
    """
    propagate.inject(headers, context)
    correlation = current(context)
    if correlation is not None:
        headers[REQUEST_ID] = correlation.request_id


class _Fields(Getter[Mapping[str, Any]]):
    """Reads fields of any type that a stranger may have sent, as the strings that propagators expect."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = field(carrier, key)
        if value is None:
            return None
        if type(value) is str and value.isascii():
            return [value]
        values = value if isinstance(value, (list, tuple)) else [value]
        return [item for item in values if isinstance(item, str) and (item.isascii() or _encodable(item))] or None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        inner = carrier.get("headers")
        return [key for key in (*carrier, *(inner if isinstance(inner, dict) else ())) if isinstance(key, str)]


_FIELDS = _Fields()


def _encodable(value: str) -> bool:
    """Whether a text has no lone surrogate, on which the baggage propagator raises."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def field(request: Mapping[str, Any], key: str) -> Any:
    """A header of the message, wherever the protocol put it."""
    value = request.get(key)
    if value is None:
        inner = request.get("headers")
        if isinstance(inner, dict):
            value = inner.get(key)
    return value.decode("latin-1") if isinstance(value, bytes) else value


def read(request: Mapping[str, Any], tags: Mapping[str, str]) -> Context:
    """The context in which a task runs: its trace context, its baggage and its request ID.

    A message starts a new unit of work, so nothing that happens to be current in the worker is inherited. An eager task
    is a part of its caller instead, and the caller's IDs are its own. A message without IDs gets them from the ID of its
    task, so that a worker's main process and its child read the same.

    :param request: the message headers as Celery's tracer gets them
    :param tags: the tags of the task, see :class:`TaskCorrelation`
    """
    base = Context()
    if request.get("is_eager"):
        base = otel_context.get_current()
        caller = current(base)
        if caller is not None:
            return with_correlation(TaskCorrelation(caller.request_id, caller.trace_id, tags), base)
    try:
        context = propagate.extract(request, base, _FIELDS)
    except Exception:
        # A propagator of somebody else may choke on what a stranger sent; the task has its ID nevertheless.
        guard.failed("the trace context of a Celery message")
        context = base
    span = trace.get_current_span(context).get_span_context()
    trace_id = span.trace_id if span.is_valid else 0
    accepted = request_id.accept(field(request, REQUEST_ID)) or request_id.accept(field(request, FOREIGN_REQUEST_ID))
    if accepted is None:
        trace_id = trace_id or _of_task(request) or request_id.new_trace_id()
        accepted = request_id.from_trace_id(trace_id)
    elif not trace_id:
        trace_id = request_id.trace_id_of(accepted) or _of_task(request) or request_id.new_trace_id()
    return with_correlation(TaskCorrelation(accepted, trace_id, tags), context)


def _of_task(request: Mapping[str, Any]) -> int | None:
    """The ID of the task as a trace ID; by default it is a random UUID."""
    task_id = request.get("id")
    return request_id.trace_id_of(task_id) if isinstance(task_id, str) else None


@contextmanager
def inside(context: Context | None) -> Iterator[None]:
    """What the main process does and logs for a task has the IDs of its message."""
    if context is None:
        yield
        return
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)
