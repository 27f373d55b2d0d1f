"""Who makes the spans of Celery: we do, or contrib's untouched instrumentor with our carriers around it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_cc import report, settings
from otel_cc.celery.producers import producers
from otel_cc.import_hook import on_import


class CeleryInstrumentor(BaseInstrumentor):
    """The entry point ``opentelemetry_instrumentor: otel_cc_celery``."""

    _contrib: Any = None
    _original: Any = None
    _active = False

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        if not settings.get().enabled:
            return
        self._active = True
        if settings.get().instrumentation == "own":
            from otel_cc.celery.execute import Runs

            self._publish(spans=True)
            producers.runs = Runs()
            report.instrumented("celery", "own")
            return
        try:
            from opentelemetry.instrumentation.celery import CeleryInstrumentor as Contrib
        except ModuleNotFoundError as error:
            report.skipped("celery", f"{error.name} is missing: pip install 'otel-cc[celery]' celery")
            return
        self._contrib = Contrib()
        self._contrib.instrument(skip_dep_check=True)
        self._publish(spans=False)
        report.instrumented("celery", "contrib")

    def _publish(self, *, spans: bool) -> None:
        from otel_cc.celery.publish import Publishes

        producers.publishes = Publishes(spans=spans)
        on_import("celery.app.base", self._hook)

    def _hook(self, base: Any) -> None:
        # The hook stays registered when the instrumentation is taken back before Celery is imported.
        if self._active and producers.publishes is not None and self._original is None:
            self._original = base.Celery.send_task
            base.Celery.send_task = producers.publishes.wrap(self._original)

    def _uninstrument(self, **kwargs: Any) -> None:
        self._active = False
        if self._contrib is not None:
            self._contrib.uninstrument()
            self._contrib = None
        if self._original is not None:
            from celery.app.base import Celery

            Celery.send_task, self._original = self._original, None
        producers.publishes = producers.runs = None
