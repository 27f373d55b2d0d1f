"""The life of a process: when it starts to serve, and how its telemetry leaves in time at its end.

Every way to end leads here: the ASGI lifespan, the signals of a Celery worker, SIGTERM where nobody handles it (uvicorn
restores the handlers that it found and raises the signal again, so nothing registered with ``atexit`` ever runs), and
``atexit``. All of them together may take ``OTEL_CC_SHUTDOWN_TIMEOUT`` seconds; an unreachable backend cannot hold a
process longer.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from opentelemetry import _logs, metrics, trace

from otel_cc import fork, guard, report, settings
from otel_cc.metrics import counters
from otel_cc.tracing.processor import SpanQueue

_serving: set[tuple[int, str]] = set()
_on_serving: list[Callable[[], None]] = []
_deadline: float | None = None


def install() -> None:
    """Take over the end of this process; call it once, after the providers are set."""
    for provider, handler in (
        (trace.get_tracer_provider(), "_atexit_handler"),
        (metrics.get_meter_provider(), "_atexit_handler"),
        (_logs.get_logger_provider(), "_at_exit_handler"),
    ):
        # The SDK's own handlers run one after the other without a common limit: 20 to 29 s with a dead collector.
        registered = getattr(provider, handler, None)
        if registered is not None:
            atexit.unregister(registered)
    atexit.register(_at_exit)
    fork.install()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def serving(kind: str) -> None:
    """Say once, in a process that starts to serve, what was instrumented.

    Supervisors, resource trackers and other helpers never come here, so they write nothing and export nothing.

    :param kind: "asgi", "celery worker" or "celery beat"
    """
    key = (os.getpid(), kind)
    if key in _serving:
        return
    _serving.add(key)
    while _on_serving:
        # One that fails costs only itself.
        with guard.guarded("what begins with the serving"):
            _on_serving.pop(0)()
    with guard.guarded("the start report"):
        report.publish(kind)


def serves(kind: str) -> bool:
    """Whether this process serves as what :func:`serving` calls ``kind``."""
    return (os.getpid(), kind) in _serving


def when_serving(callback: Callable[[], None]) -> None:
    """Run ``callback`` once, when this process starts to serve: for telemetry that helper processes must not export.

    What has run is not run again in a forked child, which inherits what it made. In a process that serves already it
    runs at once.
    """
    _on_serving.append(callback)
    if any(process == os.getpid() for process, _ in _serving):
        with guard.guarded("what begins with the serving"):
            _on_serving.pop()()


def final_flush() -> bool:
    """Deliver everything at the end of the process, within what is left of ``OTEL_CC_SHUTDOWN_TIMEOUT``.

    It may be called several times (lifespan, then signal, then ``atexit``): an unreachable backend uses up the time
    once, a reachable one gives it back.
    """
    global _deadline
    left = _ends_at() - time.monotonic()
    if left <= 0:
        return False
    delivered = flush(left)
    if delivered:
        _deadline = None
    return delivered


# Seconds after the deadline of one end from which on the next is another one: gunicorn's quick shutdown delivers while
# its worker goes on to serve.
_ANOTHER_END = 60.0


def _ends_at() -> float:
    """The deadline that all deliveries at one end of the process share."""
    global _deadline
    now = time.monotonic()
    if _deadline is None or now > _deadline + _ANOTHER_END:
        _deadline = now + settings.get().shutdown_timeout
    return _deadline


def stopped_serving() -> None:
    """Deliver everything and withdraw the status, at the last moment that a server grants."""
    final_flush()
    report.withdraw()


def flush(timeout: float) -> bool:
    """Export what every provider has, in parallel.

    :param timeout: seconds for all of them together
    :return: whether all of them said that they were done in time
    """
    deadline = time.monotonic() + timeout
    results: list[bool] = []

    def run(force_flush: Callable[[int], Any], spans: threading.Thread | None) -> None:
        try:
            if spans is not None:
                # The metrics count the spans of the last export, too; an unreachable backend leaves them half the time.
                spans.join(timeout / 2)
            # A series that nobody has seen yet is exported as 0 first: its value needs a second export.
            times = 2 if spans is not None and counters.unannounced() else 1
            results.append(all(force_flush(int(timeout * 1000)) is not False for _ in range(times)))
        except Exception:
            results.append(False)

    threads: list[threading.Thread] = []
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is not None:
            first = threads[0] if threads and provider is metrics.get_meter_provider() else None
            threads.append(threading.Thread(target=run, args=(force_flush, first), name="otel-cc-flush", daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(results) == len(threads) and all(results)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    try:
        stopped_serving()
    except Exception:
        guard.warn_once("sigterm", guard.FAILED, "the delivery on SIGTERM", exc_info=True)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    # Still here: this is PID 1 of a container, for which the kernel ignores a signal without a handler.
    signal.signal(number, _on_sigterm)


def _at_exit() -> None:
    """Deliver the rest with the threads that exist: from Python 3.12 on no thread can be started here any more."""
    try:
        counters.announce_all()
        _deliver_by(_ends_at())
        report.withdraw()
    except Exception:
        if not sys.is_finalizing():
            guard.warn_once("atexit", guard.FAILED, "the delivery at exit", exc_info=True)


def _deliver_by(deadline: float) -> None:
    def left() -> float:
        return max(0.0, deadline - time.monotonic())

    waits: list[Callable[[float], Any]] = []
    last: list[Callable[[], Any]] = []
    for processor in fork.span_processors(trace.get_tracer_provider()):
        if isinstance(processor, SpanQueue):
            if processor.pending:
                # The metrics count the spans of the last export, too.
                processor.request_flush().wait(left() / 2)
        else:
            last.append(_bounded_shutdown(processor, left))
    for reader in fork.metric_readers(metrics.get_meter_provider()):
        event, thread = getattr(reader, "_shutdown_event", None), getattr(reader, "_daemon_thread", None)
        if event is not None and thread is not None:
            # Its thread makes one last collection when the event is set.
            event.set()
            waits.append(thread.join)
        elif reader is not None:
            last.append(_bounded_reader_shutdown(reader, left))
    multi = getattr(_logs.get_logger_provider(), "_multi_log_record_processor", None)
    last += [_bounded_shutdown(processor, left) for processor in getattr(multi, "_log_record_processors", ())]
    for wait in waits:
        wait(left())
    for close in last:
        close()


def _bounded_reader_shutdown(reader: Any, left: Callable[[], float]) -> Callable[[], Any]:
    return lambda: reader.shutdown(timeout_millis=left() * 1000)


def _bounded_shutdown(processor: Any, left: Callable[[], float]) -> Callable[[], Any]:
    """The shutdown of a batch processor of the SDK, which takes a limit only one level further in."""
    inner = getattr(processor, "_batch_processor", None)
    if inner is not None:
        return lambda: inner.shutdown(timeout_millis=left() * 1000)
    shutdown: Callable[[], Any] = processor.shutdown
    return shutdown
