"""What a forked child must not inherit: queued spans, sums, locks and the parent's HTTP connection.

The SDK restarts its threads in a child, but the child then exports the parent's sums under its own identity, can wait
for ever on an export lock that was held at the fork, and sends over the parent's socket (opentelemetry-python #4767,
#2767, #3307; airflow #73147). The hook is registered after the SDK's own, so it runs after them.
"""

from __future__ import annotations

import codecs
import importlib
import os
import sys
import threading
from typing import Any

from opentelemetry import metrics, trace

from otel_cc import guard, identity
from otel_cc.tracing.processor import SpanQueue


def install() -> None:
    """Register the repair; call it once, after the providers are set."""
    # What Python and requests import at the first connect. A child that is forked at that moment, in another thread,
    # inherits the lock of a half-imported module and waits for it for ever in its own first connect.
    codecs.lookup("idna")
    if "requests" in sys.modules:
        importlib.import_module("netrc")
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_repair)


def _repair() -> None:
    # Nothing may raise here: the child would print it into the middle of whatever it is doing.
    for step in (identity.after_fork, _repair_tracing, _repair_metrics, _repair_logs):
        try:
            step()
        except Exception:
            guard.warn_once("fork", guard.FAILED, "a forked child", exc_info=True)


def span_processors(provider: object) -> tuple[Any, ...]:
    """The processors of the SDK's tracer provider; empty for any other provider."""
    return tuple(getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ()))


def metric_readers(provider: object) -> tuple[Any, ...]:
    """The readers of the SDK's meter provider; empty for any other provider."""
    return tuple(getattr(getattr(provider, "_measurement_consumer", None), "_reader_storages", ()))


def _repair_tracing() -> None:
    for processor in span_processors(trace.get_tracer_provider()):
        exporter = getattr(processor, "exporter", None) or getattr(processor, "span_exporter", None)
        _reconnect(exporter)
        if isinstance(processor, SpanQueue):
            processor.after_fork()


def _repair_metrics() -> None:
    consumer = getattr(metrics.get_meter_provider(), "_measurement_consumer", None)
    storages = getattr(consumer, "_reader_storages", None)
    if consumer is None or not storages:
        return
    from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage

    consumer._lock = threading.Lock()
    fresh = {}
    for reader in storages:
        fresh[reader] = MetricReaderStorage(
            consumer._sdk_config, reader._instrument_class_temporality, reader._instrument_class_aggregation
        )
        if hasattr(reader, "_export_lock"):
            reader._export_lock = threading.Lock()
        _reconnect(getattr(reader, "_exporter", None))
    consumer._reader_storages = fresh


def _repair_logs() -> None:
    # Nothing is imported in a child that was forked a moment ago; where nobody has loaded it, nobody exports logs.
    logs = sys.modules.get("opentelemetry._logs")
    multi = getattr(logs and logs.get_logger_provider(), "_multi_log_record_processor", None)
    for processor in getattr(multi, "_log_record_processors", ()):
        # The SDK clears the queue and starts the thread anew.
        _reconnect(getattr(getattr(processor, "_batch_processor", processor), "_exporter", None))


def _reconnect(exporter: object) -> None:
    """Give an OTLP/HTTP exporter a connection pool of its own; the parent's may be in use and locked."""
    transport = getattr(getattr(exporter, "_client", None), "_transport", None)
    # Before 1.45 the session is the exporter's own.
    for holder in (transport, exporter):
        session = getattr(holder, "_session", None)
        if session is not None:
            fresh = type(session)()
            for name in ("headers", "auth", "proxies", "params", "verify", "cert", "trust_env"):
                setattr(fresh, name, getattr(session, name))
            holder._session = fresh  # type: ignore[union-attr]  # it has a session, so it is not None
    pool = getattr(transport, "_pool", None)
    if pool is not None:
        # The transport over urllib3 that upstream has, too.
        transport._pool = type(pool)(**pool.connection_pool_kw)  # type: ignore[union-attr]  # likewise
    if isinstance(getattr(transport, "_idle", None), list):
        # Ours: what is closed here stays open in the parent.
        transport.close()  # type: ignore[union-attr]  # likewise
