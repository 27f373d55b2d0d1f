"""Which process measures itself: each one that serves, once, and the children that it forks; helpers never."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from typing import Any

from opentelemetry import metrics as otel_metrics
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_cc import fork, lifecycle, metrics, settings
from otel_cc.process import resources
from otel_cc.process.eventloop import Watch
from otel_cc.process.gc_pauses import Pauses
from otel_cc.process.threadpool import ThreadPool


class ProcessInstrumentor(BaseInstrumentor):
    """The entry point ``opentelemetry_instrumentor: otel_cc_process``."""

    _ends: list[Callable[[], object]]
    _on = False

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        if settings.get().enabled:
            self._on, self._ends = True, []
            lifecycle.when_serving(self._begin)

    def _uninstrument(self, **kwargs: Any) -> None:
        self._on = False
        while getattr(self, "_ends", None):
            self._ends.pop()()

    def _begin(self) -> None:
        if not self._on or not fork.metric_readers(otel_metrics.get_meter_provider()):
            # Nobody will ask.
            return
        pauses = Pauses()
        pauses.start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=pauses.forget)

        def cpu_time() -> metrics.Values:
            # Read at each collection, of which what is recorded here is a part.
            pauses.record()
            return resources.cpu_time()

        self._ends += [
            pauses.stop,
            metrics.observe("process.cpu.time", cpu_time, in_children=True),
            metrics.observe("process.memory.usage", resources.memory, in_children=True),
        ]
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # A Celery worker has none.
            return
        watch = Watch(loop)
        watch.start()
        self._ends.append(watch.stop)
        threads = ThreadPool(loop)
        for name, read in (
            ("process.threadpool.tokens.used", threads.used),
            ("process.threadpool.tokens.max", threads.maximum),
            ("process.threadpool.pending_requests", threads.pending),
        ):
            self._ends.append(metrics.observe(name, read))
