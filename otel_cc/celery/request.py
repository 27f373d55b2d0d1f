"""When an execution is received, starts and ends, seen from the main process of the worker, whatever its pool.

Celery makes a class of requests for each task (``create_request_cls``); ours is derived from it. Signals do not do: the
main process gets some of them twice, for some outcomes none, and for a task that ends in a child none at all.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from opentelemetry.context import Context

from otel_cc import guard
from otel_cc.celery import failure, message, outcome, queue_time
from otel_cc.celery.message import inside
from otel_cc.celery.outcome import Outcomes
from otel_cc.celery.producers import producers

_PLACE = "the outcome of a Celery task"
_newest = threading.local()


def hook(module: Any) -> None:
    """Put our class and our log line in place.

    :param module: ``celery.worker.strategy``, which only a worker imports
    """
    module.create_request_cls = _creating(module.create_request_cls)
    module.default = _announcing(module.default, module.logger)


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_request_cls(base: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(base, task, *args, **kwargs)
        try:
            return _counted(made, task, kwargs.get("app") or task.app)
        except Exception:
            guard.failed(_PLACE)
            return made

    return create_request_cls


def _announcing(original: Callable[..., Any], logger: Any) -> Callable[..., Any]:
    """Celery's strategy, whose line "Task received" is about the request that was just made in the same thread."""

    def received(*args: Any, **kwargs: Any) -> None:
        with inside(getattr(_newest, "context", None)):
            logger.info(*args, **{"stacklevel": 2, **kwargs})

    @functools.wraps(original)
    def default(task: Any, app: Any, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        if not args:
            kwargs.setdefault("info", received)
        return original(task, app, consumer, *args, **kwargs)

    return default


class Execution:
    """One execution of a task, or the attempt."""

    __slots__ = ("_accepted", "_outcomes", "_stands_in", "_state", "_terminating", "context", "destination")

    def __init__(self, request: Any, outcomes: Outcomes, tags: dict[str, str]) -> None:
        self._outcomes = outcomes
        self._accepted: float | None = None
        self._state: str | None = None
        self._terminating = self._stands_in = False
        self.destination = outcomes.received(request.delivery_info)
        self.context: Context = message.read(request.request_dict, tags)
        _newest.context = self.context

    def accepted(self, request: Any, at: float) -> None:
        """The pool has begun to run it.

        :param at: on the monotonic clock, which all processes of a machine share
        """
        self._accepted = at
        waited = queue_time.waited(request.request_dict, request.eta, time() - (monotonic() - at))
        if waited is not None:
            self._outcomes.started(self.destination, waited, self.context)

    def terminating(self) -> None:
        """It is about to be terminated."""
        self._terminating = True

    def succeeded(self, request: Any, seconds: float | None) -> None:
        """The pool says that it worked.

        :param seconds: as Celery measured them; None when nothing ran
        """
        if seconds is not None:
            self.end(request, "SUCCESS", seconds=seconds)
        elif self._terminating:
            # A greenlet is killed before Celery announces it.
            self.end(request, "REVOKED", reason="terminated")
        elif hasattr(request.kwargs, "items"):
            # A redelivered task that was done already (worker_deduplicate_successful_tasks).
            self.end(request, "IGNORED")
        else:
            self.end(request, "FAILURE", "celery.exceptions.InvalidTaskError")

    def failed(self, request: Any, error: Any) -> None:
        """The pool says that it did not."""
        state, error_type = failure.classify(error)
        reason = "terminated" if state == "REVOKED" else None
        self.end(request, state, error_type, reason, expected=self._outcomes.expects(error))

    def killed(self, request: Any, error: Any) -> None:
        """Stand in for the span that a child took with it; one that ended in another way has delivered it."""
        if producers.runs is None or self._stands_in or self._accepted is None or not failure.by_sigkill(error):
            return
        self._stands_in = True
        nanoseconds = int((time() - (monotonic() - self._accepted)) * 1e9)
        producers.runs.stand_in(request, self.context, nanoseconds, self._state or "LOST", error)

    def rejected_unstarted(self, request: Any) -> None:
        """Celery gives up on it before it starts, because of an eta that is no date."""
        if self._accepted is None:
            self.end(request, "REJECTED")

    def end(
        self,
        request: Any,
        state: str,
        error_type: str | None = None,
        reason: str | None = None,
        *,
        seconds: float | None = None,
        expected: bool = False,
    ) -> None:
        """Count it, the first time: Celery reports a hard time limit and a lost child twice."""
        if self._state is not None:
            return
        self._state = state
        if seconds is None and self._accepted is not None:
            seconds = max(0.0, monotonic() - self._accepted)
        self._outcomes.ended(
            *(self.destination, state, error_type, reason), seconds=seconds, context=self.context, expected=expected
        )
        if state == "SUCCESS":
            for tell in outcome.on_success:
                tell(request)


def _counted(base: Any, task: Any, app: Any) -> Any:
    outcomes = Outcomes(app, task.name, getattr(task, "throws", ()))
    tags = message.tags(task)
    # Celery 5.7 asks the backend whether a task had succeeded before its child was lost.
    asks_the_backend = hasattr(base, "_success_was_stored")

    class Request(base):
        _otel_cc: Execution | None = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            try:
                self._otel_cc = Execution(self, outcomes, tags)
            except Exception:
                guard.failed(_PLACE)

        def _tell(self, what: Callable[..., None], *args: Any, **kwargs: Any) -> None:
            """Call a method of :class:`Execution`."""
            if self._otel_cc is not None:
                try:
                    what(self._otel_cc, self, *args, **kwargs)
                except Exception:
                    guard.failed(_PLACE)

        def on_accepted(self, pid: Any, time_accepted: float) -> Any:
            self._tell(Execution.accepted, time_accepted)
            return super().on_accepted(pid, time_accepted)

        def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
            result = failed__retval__runtime
            if not isinstance(result, tuple):
                # What lost a task in a pool without children; Celery itself chokes on it.
                self._tell(Execution.failed, failure.unwrap(result))
            elif result[0]:
                self._tell(Execution.failed, failure.unwrap(result[1]))
            else:
                self._tell(Execution.succeeded, result[2])
            return super().on_success(result, **kwargs)

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
            error = failure.unwrap(exc_info)
            if not asks_the_backend or failure.classify(error)[0] != "LOST":
                self._tell(Execution.failed, error)
            try:
                with inside(self._otel_cc.context if self._otel_cc else None):
                    return super().on_failure(exc_info, *args, **kwargs)
            finally:
                self._tell(Execution.failed, error)
                self._tell(Execution.killed, error)

        if asks_the_backend:

            def _success_was_stored(self) -> Any:
                found = super()._success_was_stored()
                if found:
                    self._tell(Execution.end, "SUCCESS")
                return found

        def on_timeout(self, soft: bool, timeout: float) -> Any:
            if not soft:
                self._tell(Execution.end, "FAILURE", "billiard.exceptions.TimeLimitExceeded")
            with inside(self._otel_cc.context if self._otel_cc else None):
                return super().on_timeout(soft, timeout)

        def terminate(self, *args: Any, **kwargs: Any) -> Any:
            if self.time_start:
                self._tell(lambda execution, _: execution.terminating())
            return super().terminate(*args, **kwargs)

        def reject(self, requeue: bool = False) -> Any:
            if not requeue:
                self._tell(Execution.rejected_unstarted)
            return super().reject(requeue)

        def _announce_revoked(self, reason: str, *args: Any, **kwargs: Any) -> Any:
            self._tell(Execution.end, "REVOKED", reason=reason)
            return super()._announce_revoked(reason, *args, **kwargs)

        def _announce_cancelled(self, *args: Any, **kwargs: Any) -> Any:
            # The broker is gone, or the worker ends at once: the message goes back and runs again elsewhere.
            self._tell(Execution.end, "LOST", "cancelled")
            return super()._announce_cancelled(*args, **kwargs)

    return Request
