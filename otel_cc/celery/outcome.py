"""How the execution of a task ended, counted once, in the main process of the worker.

There all outcomes of all pools arrive, those of killed children too, and one worker is one time series; no events
(``-E``) are needed. request.py says when; here it is named and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from opentelemetry.context import Context

from otel_cc import error_count, guard, metrics
from otel_cc.celery import broker
from otel_cc.celery.failure import error_name
from otel_cc.celery.values import destination_of
from otel_cc.error_type import type_name
from otel_cc.metrics.catalogue import OTHER

# Called with Celery's Request after each execution that ended in success.
on_success: list[Callable[[Any], None]] = []


class Outcomes:
    """Counts the executions of one task; made in the worker's main process.

    :param name: under which the task is registered, or None for those that are not
    """

    def __init__(self, app: Any, name: str | None, throws: Any = ()) -> None:
        self.system = broker.system(app)
        self.name = OTHER if name is None else metrics.bounded("celery.task.name", name)
        self.throws = tuple(throws or ())
        self._received = metrics.counter("messaging.client.consumed.messages")
        self._executions = metrics.counter("celery.task.executions")
        self._duration = metrics.histogram("messaging.process.duration")
        self._waited = metrics.histogram("celery.task.queue.duration")

    def received(self, delivery_info: Any) -> str | None:
        """Count a message.

        :return: its destination as a label
        """
        key = destination_of(delivery_info.get("routing_key")) if isinstance(delivery_info, dict) else None
        label = None if key is None else metrics.bounded("messaging.destination.name", key)
        self._received.add(1, _labels(self.system, "receive", self.name, label))
        return label

    def started(self, destination: str | None, waited: float, context: Context) -> None:
        """Record how long a task waited.

        :param waited: seconds
        """
        self._waited.record(waited, _labels(self.system, None, self.name, destination), context)

    def ended(
        self,
        destination: str | None,
        state: str,
        error_type: str | None = None,
        reason: str | None = None,
        *,
        seconds: float | None = None,
        context: Context | None = None,
        expected: bool = False,
    ) -> None:
        """Count an execution.

        :param reason: why it was revoked
        :param seconds: how long it ran, or None when it never started
        :param expected: whether the task declares its exception as a normal result (``throws``), which is no error
        """
        kind = None if error_type is None else metrics.bounded("error.type", error_type)
        self._executions.add(1, _labels(self.system, None, self.name, destination, state, kind, reason))
        if seconds is not None:
            labels = _labels(self.system, "process", self.name, destination, state, kind)
            self._duration.record(seconds, labels, context)
        if state in ("FAILURE", "LOST") and not expected:
            error_count.task(self.name, error_type or state)

    def expects(self, error: object) -> bool:
        """Whether the task declares this exception as a normal result."""
        if not self.throws or not isinstance(error, BaseException):
            return False
        return isinstance(error, self.throws) or error_name(error) in {type_name(kind) for kind in self.throws}


@lru_cache(maxsize=4096)
def _labels(
    system: str,
    operation: str | None,
    task: str,
    destination: str | None,
    state: str | None = None,
    error_type: str | None = None,
    reason: str | None = None,
) -> dict[str, str]:
    """The attributes of a measurement; one dict for each combination, always in the same order."""
    values = {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "celery.task.name": task,
        "messaging.destination.name": destination,
        "celery.task.state": state,
        "celery.task.revoked.reason": reason,
        "error.type": error_type,
    }
    return {name: value for name, value in values.items() if value is not None}


# Messages that are no executions: of a task that nobody knows, or that cannot be made into a task.


def connect(signals: Any) -> None:
    """Connect to Celery's signals.

    :param signals: the module ``celery.signals``
    """
    signals.task_unknown.connect(_unknown, weak=False, dispatch_uid="otel_cc.task_unknown")
    signals.task_rejected.connect(_rejected, weak=False, dispatch_uid="otel_cc.task_rejected")


def hook_consumer(module: Any) -> None:
    """For a message whose body cannot be read Celery sends no signal.

    :param module: ``celery.worker.consumer.consumer``
    """
    original = module.Consumer.on_decode_error

    def on_decode_error(self: Any, message: Any, exc: BaseException) -> Any:
        _no_task(self.app, message, "REJECTED", exc)
        return original(self, message, exc)

    module.Consumer.on_decode_error = on_decode_error


def _unknown(sender: Any = None, message: Any = None, **_: object) -> None:
    # A stranger's names must not become series.
    _no_task(sender.app, message, "UNKNOWN", None)


def _rejected(sender: Any = None, message: Any = None, exc: Any = None, **_: object) -> None:
    _no_task(sender.app, message, "REJECTED", exc)


def _no_task(app: Any, message: Any, state: str, error: BaseException | None) -> None:
    try:
        headers = getattr(message, "headers", None)
        name = headers.get("task") if isinstance(headers, dict) else None
        outcomes = Outcomes(app, name if isinstance(name, str) and name in app.tasks else None)
        destination = outcomes.received(getattr(message, "delivery_info", None))
        outcomes.ended(destination, state, None if error is None else error_name(error))
    except Exception:
        guard.failed("the outcome of a Celery message")
