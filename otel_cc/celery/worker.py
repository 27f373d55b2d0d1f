"""The life of Celery's processes: when they start to serve, and that their telemetry leaves before they do.

A pool child leaves through ``os._exit``: nothing that is registered with ``atexit`` runs there, and without the signal
``worker_process_shutdown`` it would take up to five seconds of spans with it (opentelemetry-python-contrib#4916). The
signal comes also before a child is recycled (``--max-tasks-per-child``), at a hard time limit and at a cold shutdown.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from otel_cc import guard, lifecycle, settings
from otel_cc.celery import heartbeat

# The handlers that bring log records to the SDK.
_exporting: list[logging.Handler] = []


def connect(signals: Any) -> None:
    """Connect to Celery's signals.

    :param signals: the module ``celery.signals``
    """
    _remember_logs()
    for signal, receiver in (
        (signals.celeryd_init, _remember_logs),
        (signals.after_setup_logger, _export_logs),
        (signals.after_setup_task_logger, _export_logs_of_tasks),
        (signals.celeryd_after_setup, _worker_serves),
        # A worker inside another program (celery.contrib.testing) sends only this one.
        (signals.worker_ready, _worker_serves),
        (signals.beat_init, _beat_serves),
        (signals.beat_embedded_init, _beat_is_embedded),
        (signals.worker_process_shutdown, _child_ends),
        (signals.worker_shutdown, _worker_ends),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"otel_cc.{signal.name}")


def _remember_logs(**_: object) -> None:
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == "LoggingHandler" and handler not in _exporting:
            handler.addFilter(_eta_as_text)
            _exporting.append(handler)


def _eta_as_text(record: logging.LogRecord) -> bool:
    """Of a datetime, which Celery adds to its line for each task with an ETA, the SDK would complain in a line of its own."""
    data = record.__dict__.get("data")
    if isinstance(data, dict) and isinstance(data.get("eta"), datetime):
        # Celery's own stays as it is: its line is made of it.
        record.__dict__["data"] = {**data, "eta": data["eta"].isoformat()}
    return True


def _export_logs(logger: logging.Logger, **_: object) -> None:
    """Celery takes every handler from the root logger (``worker_hijack_root_logger``), the SDK's, too."""
    for handler in _exporting:
        if handler not in logger.handlers:
            logger.addHandler(handler)


def _export_logs_of_tasks(logger: logging.Logger, **_: object) -> None:
    """The loggers of tasks have handlers of their own, and their records do not go on to the root logger."""
    if not logger.propagate:
        _export_logs(logger)


def _worker_serves(**_: object) -> None:
    with guard.guarded("the start of the Celery worker"):
        lifecycle.serving("celery worker")


def _beat_serves(**_: object) -> None:
    with guard.guarded("the start of Celery beat"):
        lifecycle.serving("celery beat")


def _beat_is_embedded(**_: object) -> None:
    """``celery worker -B`` runs beat in a child that leaves through ``os._exit``, after billiard's own finalizers."""
    with guard.guarded("the end of embedded Celery beat"):
        from billiard.util import Finalize

        Finalize(None, _child_ends, exitpriority=0)


def _child_ends(**_: object) -> None:
    with guard.guarded("the flush of a Celery pool process"):
        lifecycle.flush(settings.get().flush_timeout)


def _worker_ends(**_: object) -> None:
    # Threads can still be started here; at ``atexit`` they no longer can.
    with guard.guarded("the flush of the Celery worker"):
        heartbeat.ended()
        lifecycle.final_flush()
