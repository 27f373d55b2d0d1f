"""Ended spans on their way to the exporter: a queue, one thread, and a flush that keeps to its time limit.

It differs from the SDK's batch processor where that one loses data or time: ``force_flush`` there ignores its timeout
(opentelemetry-python #4568), its thread runs in processes that never make a span, and a forked child keeps the parent's
HTTP connection. The ``OTEL_BSP_*`` variables mean the same here.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_cc import context as correlation_context
from otel_cc import guard
from otel_cc.tracing.measures import Measures

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("otel_cc")


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    try:
        value = int(text or default)
        if value > 0:
            return value
    except ValueError:
        pass
    logger.error("%s=%r is not a positive integer, %d is used: correct the variable.", variable, text, default)
    return default


class RequestIdOnSpans(SpanProcessor):
    """Puts the request ID on the spans of everybody else; our lean spans have it from their creation."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        attributes = span._attributes
        if attributes is None or correlation_context.ATTRIBUTE not in attributes:
            correlation = correlation_context.current(parent_context)
            if correlation is not None:
                span.set_attribute(correlation_context.ATTRIBUTE, correlation.request_id)


class SpanQueue(SpanProcessor):
    """Batches ended spans and exports them from one background thread, which starts with the first span.

    :param exporter: gets batches of ended spans; it is never called concurrently
    :ivar limit: how many spans may wait
    :ivar processed: how many were given to the exporter
    :ivar in_flight: how many it has at the moment
    :ivar dropped: how many were not kept, by the reason, as the conventions name it
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self.exporter = exporter
        self.limit = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._batch = min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self.limit)
        self._delay = _number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._closed = False
        self._measures: Measures | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a forked child: what is queued belongs to the parent, and its thread is not here."""
        # Spans, and between them the events of flushes that wait for everything queued before.
        self._queue: deque[ReadableSpan | threading.Event] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        # The garbage collector may find something that ends a span while one of them is held.
        self._starting = threading.RLock()
        self._counting = threading.RLock()
        self._exporting = False
        self.processed = self.in_flight = 0
        self.dropped = {"queue_full": 0, "already_shutdown": 0}

    def on_end(self, span: ReadableSpan) -> None:
        if not span._context.trace_flags & 1:  # type: ignore[union-attr]  # an ended span has a context
            return
        waiting = len(self._queue)
        if self._closed or waiting >= self.limit:
            self._drop()
            return
        self._queue.append(span)
        if waiting >= self._batch and not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            self._start()

    def force_flush(self, timeout_millis: int | None = 30000) -> bool:
        """Export what has ended so far.

        :param timeout_millis: how long to wait for it
        :return: whether the exporter was given everything in time
        """
        if not self.pending:
            return True
        done = self.request_flush()
        return done.wait((30000 if timeout_millis is None else timeout_millis) / 1000)

    @property
    def pending(self) -> bool:
        """Whether anything waits or is being exported."""
        return bool(self._queue) or self._exporting

    @property
    def waiting(self) -> int:
        """How many spans wait."""
        while True:
            try:
                return sum(not isinstance(item, threading.Event) for item in self._queue.copy())
            except RuntimeError:
                # Another thread changed it in between.
                continue

    def request_flush(self) -> threading.Event:
        """Ask the thread to export at once; the event is set when it has."""
        done = threading.Event()
        self._queue.append(done)
        self._wake.set()
        if self._thread is None:
            self._start()
        return done

    def shutdown(self) -> None:
        if not self._closed:
            self.force_flush()
            self._closed = True
            self._wake.set()
            self.exporter.shutdown()

    def _drop(self) -> None:
        reason = "already_shutdown" if self._closed else "queue_full"
        with self._counting:
            self.dropped[reason] += 1
            full = self.dropped["queue_full"]
        # One line for the first, then at every tenfold: a full queue drops thousands.
        if reason == "queue_full" and (full in (1, 10, 100, 1000) or full % 10000 == 0):
            logger.warning(
                "%d spans dropped so far: the queue of %d is full; raise OTEL_BSP_MAX_QUEUE_SIZE or look at the exporter.",
                full,
                self.limit,
            )

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._measure()
                thread = threading.Thread(target=self._run, name="otel-cc-spans", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # The interpreter is shutting down and starts no threads any more (Python 3.12): export right here.
                    self._export_waiting()
                    return
                self._thread = thread

    def _measure(self) -> None:
        if self._measures is None:
            try:
                self._measures = Measures(self)
            except Exception:
                guard.failed("telemetry about the export of spans")

    def _run(self) -> None:
        while not self._closed:
            woken = self._wake.wait(self._delay)
            if woken:
                self._wake.clear()
            self._export_waiting()

    def _export_waiting(self) -> None:
        queue = self._queue
        while queue:
            batch: list[ReadableSpan] = []
            done: threading.Event | None = None
            self._exporting = True
            try:
                while queue and len(batch) < self._batch:
                    item = queue.popleft()
                    if isinstance(item, threading.Event):
                        done = item
                        break
                    batch.append(item)
                if batch:
                    self._export(batch)
            finally:
                self._exporting = False
                if done is not None:
                    done.set()

    def _export(self, batch: list[ReadableSpan]) -> None:
        token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        with self._counting:
            self.processed += len(batch)
            self.in_flight += len(batch)
        began = perf_counter()
        failure: BaseException | None = None
        succeeded = False
        try:
            succeeded = self.exporter.export(batch) is not SpanExportResult.FAILURE
        except Exception as error:
            failure = error
            logger.exception("the span exporter failed, %d spans are lost: check OTEL_TRACES_EXPORTER.", len(batch))
        finally:
            otel_context.detach(token)
            with self._counting:
                self.in_flight -= len(batch)
            if self._measures is not None:
                self._measures.exported(len(batch), perf_counter() - began, succeeded, failure)
