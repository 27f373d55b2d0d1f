"""What an exception says of the execution that it ended: its state and its type, whatever pool it comes from."""

from __future__ import annotations

import signal
from typing import Any

from otel_cc.error_type import type_name


def unwrap(info: Any) -> Any:
    """The exception in what a pool hands over."""
    return unwrapped(getattr(info, "exception", info))


def unwrapped(error: Any) -> Any:
    """An exception without billiard's wrapping of what crosses processes."""
    return getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error


def classify(error: Any) -> tuple[str, str | None]:
    """State and error type of an execution that did not succeed.

    :param error: the exception that ended it, see :func:`unwrap`
    """
    from billiard.exceptions import Terminated, WorkerLostError
    from celery.exceptions import Ignore, Reject, Retry

    if isinstance(error, Retry):
        reason = getattr(error, "exc", None)
        return "RETRY", error_name(reason) if isinstance(reason, BaseException) else None
    if isinstance(error, Reject):
        return "REJECTED", None
    if isinstance(error, Ignore):
        return "IGNORED", None
    if isinstance(error, Terminated):
        return "REVOKED", None
    if isinstance(error, WorkerLostError):
        # The pools without children say so when a task leaves by SystemExit, which is the context.
        cause = error.__context__
        return "LOST", error_name(error if cause is None or isinstance(cause, Exception) else cause)
    if isinstance(error, Exception):
        return "FAILURE", error_name(error)
    return "LOST", error_name(error) if isinstance(error, BaseException) else None


def error_name(error: BaseException) -> str:
    """The class of an exception, also of one that could not be sent from the child to the main process."""
    if type(error).__name__ == "UnpickleableExceptionWrapper":
        module, name = getattr(error, "exc_module", None), getattr(error, "exc_cls_name", None)
        if isinstance(name, str):
            return name if module in (None, "builtins") else f"{module}.{name}"
    return type_name(type(error))


def by_sigkill(error: Any) -> bool:
    """Whether the child was killed by SIGKILL, so that it could deliver nothing: by the system, or to terminate its task."""
    return "SIGKILL" in str(error) or (type(error).__name__ == "Terminated" and error.args == (signal.SIGKILL,))
