"""Who makes the CLIENT spans of SQLAlchemy: we do, or contrib's untouched instrumentor with our comments beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_cc import report, settings
from otel_cc.import_hook import on_import
from otel_cc.sql import pool
from otel_cc.sql.engine import hook
from otel_cc.sql.measures import ClientSpans, Measures, PoolMeasures
from otel_cc.sql.switches import switches


class SQLAlchemyInstrumentor(BaseInstrumentor):
    """The entry point ``opentelemetry_instrumentor: otel_cc_sqlalchemy``."""

    _contrib: Any = None
    _uses_contrib = False

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        if not settings.get().enabled:
            return
        # What contrib does not measure hangs on the engine, not on who makes the spans.
        switches.measures = Measures()
        switches.pools = PoolMeasures(pool.READERS)
        # The carriers hook it, too, but not for metrics alone, and an application may use the instrumentor by itself.
        on_import("sqlalchemy.engine.base", hook)
        if settings.get().instrumentation == "own":
            switches.spans = ClientSpans()
            report.instrumented("sqlalchemy", "own")
            return
        self._uses_contrib = True
        # Contrib's module imports SQLAlchemy at once; a process that never does should not pay for it.
        on_import("sqlalchemy", self._load_contrib)

    def _load_contrib(self, _: Any) -> None:
        """Load contrib's instrumentor, also for the SQLAlchemy 2.1 that its own range excludes but it works with."""
        if not self._uses_contrib:
            return
        # SQLAlchemy 2.1 no longer brings greenlet. Without it contrib's instrumentor fails half-way: it leaves functions
        # patched that its uninstrument() does not know of.
        if importlib.util.find_spec("greenlet") is None:
            report.skipped("sqlalchemy", "greenlet is missing: pip install 'otel-cc[sqlalchemy]' greenlet")
            return
        try:
            from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor as Contrib

            self._contrib = Contrib()
            self._contrib.instrument(skip_dep_check=True)
            report.instrumented("sqlalchemy", "contrib")
        except ImportError as error:
            report.skipped("sqlalchemy", f"{error.name or error} is missing: pip install 'otel-cc[sqlalchemy]'")

    def _uninstrument(self, **kwargs: Any) -> None:
        switches.spans = switches.measures = None
        if switches.pools is not None:
            switches.pools.close()
            switches.pools = None
        self._uses_contrib = False
        if self._contrib is not None:
            self._contrib.uninstrument()
            self._contrib = None
