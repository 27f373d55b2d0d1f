"""Counts errors of requests and of tasks under one name, so that one panel shows them all."""

from __future__ import annotations

from functools import lru_cache

from otel_cc import metrics
from otel_cc.metrics import bounded
from otel_cc.metrics.catalogue import STATUSES

# The endpoint of a request that no route of the application matched: never its path.
UNMATCHED = "unmatched"


def request(endpoint: str | None, status: int, error_type: str) -> None:
    """Count a request that ended in an error.

    :param endpoint: the route template; None where no route matched
    :param status: of the response; 500 where there was none
    :param error_type: the exception class, or the status code where there is no exception
    """
    if endpoint is None:
        endpoint = UNMATCHED
    metrics.counter("commandcenter.errors").add(
        1, _request_labels(bounded("endpoint", endpoint), status, bounded("error_type", error_type))
    )


def task(name: str, error_type: str) -> None:
    """Count a failed task.

    :param name: of the task, as a label
    :param error_type: its exception class
    """
    metrics.counter("commandcenter.errors").add(1, _task_labels(name, bounded("error_type", error_type)))


@lru_cache(maxsize=4096)
def _request_labels(endpoint: str, status: int, error_type: str) -> dict[str, str | int]:
    if status not in STATUSES:
        return {"endpoint": endpoint, "error_type": error_type}
    return {"endpoint": endpoint, "status_code": status, "error_type": error_type}


@lru_cache(maxsize=4096)
def _task_labels(name: str, error_type: str) -> dict[str, str]:
    return {"error_type": error_type, "celery.task.name": name}
