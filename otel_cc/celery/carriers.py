"""Puts the Celery carriers in place: the IDs go into every message that is published, and around every task that runs.

Celery's tracer, the function that runs one task, is wrapped instead of connecting to ``task_prerun`` and
``task_postrun``: the IDs are there before any receiver of these signals and go after the last of them, whatever the
order of connection, also when the task is interrupted; an eager task nested in a request gives its caller's context
back. Whoever makes the spans puts itself into :data:`~otel_cc.celery.producers.producers`; without one the incoming
trace context passes on unchanged. What a worker counts hangs here too, whoever makes the spans.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otel_cc import guard, settings
from otel_cc.celery import beat, heartbeat, message, monitor, outcome, queue_time, request, worker
from otel_cc.celery.producers import producers
from otel_cc.context import current
from otel_cc.import_hook import on_import


def install() -> None:
    """Hook Celery as soon as it is imported; a process that never does pays nothing."""
    on_import("celery.signals", _hook_publish)
    for module in (worker, outcome, heartbeat, monitor, beat):
        on_import("celery.signals", module.connect)
    on_import("celery.app.trace", _hook_tracer)
    # It has its own name for the function, which matters when it was imported before us.
    on_import("celery.worker.consumer.consumer", _hook_tracer)
    on_import("celery.worker.consumer.consumer", outcome.hook_consumer)
    on_import("celery.worker.strategy", request.hook)
    on_import("opentelemetry.instrumentation.celery", _hook_contrib)


def _hook_publish(signals: Any) -> None:
    signals.before_task_publish.connect(_before_publish, weak=False, dispatch_uid="otel_cc.before_task_publish")


def _hook_tracer(module: Any) -> None:
    if not hasattr(module.build_tracer, "_otel_cc"):
        module.build_tracer = _building(module.build_tracer)


def _hook_contrib(module: Any) -> None:
    # Contrib reads the message itself and attaches what comes out, for an eager task nothing at all: the IDs that are
    # there already would be gone. Whoever loads it, it continues from what the carrier has read of the same message.
    original = getattr(module, "extract", None)
    if original is None:
        return

    @functools.wraps(original)
    def extract(*args: Any, **kwargs: Any) -> Context:
        context = otel_context.get_current()
        if isinstance(current(context), message.TaskCorrelation):
            return context
        extracted: Context = original(*args, **kwargs)
        return extracted

    module.extract = extract


def _before_publish(headers: Any = None, body: Any = None, routing_key: Any = None, **_: object) -> None:
    try:
        if not isinstance(headers, dict):
            return
        if producers.publishes is not None:
            producers.publishes.start(headers, body, routing_key)
        if settings.get().celery_headers:
            message.write(headers)
            queue_time.write(headers)
            beat.write(headers)
            if "id" not in headers and isinstance(body, dict):
                # Protocol 1 has no headers of its own. Contrib's instrumentor looks for the task ID in them as soon as
                # there are any, and would never end its span.
                headers["id"] = body.get("id")
    except Exception:
        guard.failed("the headers of a Celery message")


def _building(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return _around(task, original(name, task, *args, **kwargs))

    build_tracer._otel_cc = True  # type: ignore[attr-defined]  # our mark
    return build_tracer


def _around(task: Any, trace_task: Callable[..., Any]) -> Callable[..., Any]:
    """The tracer of one task, with the IDs of the message around it."""
    tags = message.tags(task)

    def trace_task_with_ids(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
        token = run = None
        try:
            token = otel_context.attach(message.read(request or {}, tags))
            if producers.runs is not None:
                run = producers.runs.start(task, uuid, request or {})
        except Exception:
            guard.failed("the IDs of a Celery task")
        try:
            result = trace_task(uuid, args, kwargs, request)
        except BaseException as error:
            if run is not None:
                run.interrupted(error)
            raise
        else:
            if run is not None:
                run.returned(result)
            return result
        finally:
            if token is not None:
                otel_context.detach(token)

    return trace_task_with_ids
