"""Who makes the SERVER spans of FastAPI: we do, or contrib's untouched instrumentor with our carriers around it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_cc import report, settings
from otel_cc.http.blame import route_of_frame
from otel_cc.http.carriers import entrance
from otel_cc.http.measures import Measures
from otel_cc.http.span import ServerSpans
from otel_cc.process import blame


class FastAPIInstrumentor(BaseInstrumentor):
    """The entry point ``opentelemetry_instrumentor: otel_cc_fastapi``."""

    _contrib: Any = None
    _measures: Measures | None = None
    _take_back: Callable[[], None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        if not settings.get().enabled:
            return
        if settings.get().instrumentation == "own":
            entrance().spans = ServerSpans()
            self._measure()
            report.instrumented("fastapi", "own")
            return
        try:
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor as Contrib
        except ModuleNotFoundError as error:
            report.skipped("fastapi", f"{error.name} is missing: pip install 'otel-cc[fastapi]' fastapi")
            return
        self._contrib = Contrib()
        self._contrib.instrument(skip_dep_check=True)
        self._measure()
        report.instrumented("fastapi", "contrib")

    def _measure(self) -> None:
        # What contrib does not measure hangs on the entrance of a request, not on who makes its span.
        self._measures = entrance().measures = Measures()
        self._take_back = blame.ask_for_route(route_of_frame)

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._contrib is not None:
            self._contrib.uninstrument()
            self._contrib = None
        entrance().spans = entrance().measures = None
        if self._measures is not None:
            self._measures.close()
            self._measures = None
        if self._take_back is not None:
            self._take_back()
            self._take_back = None
