"""The catalogue: every instrument that we emit, as data. Names follow the semantic conventions where one exists.

Instruments are made from it; docs/metrics.md, dashboards, alerts and tests are derived from it or held against it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["histogram", "counter", "updown", "gauge"]

# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#metric-dbclientoperationduration
SQL_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
# The convention's buckets end at 10 s; tasks run longer, and wait longer.
TASK_SECONDS = (*HTTP_SECONDS, 30.0, 60.0, 300.0, 1800.0)
WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
# No request waits longer in front of the server than LONGEST in http/queue_time.py.
QUEUE_SECONDS = (*HTTP_SECONDS, 30.0, 60.0)
PAUSE_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONNECTION_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0)
SIZE_BYTES = (0.0, 128.0, 1024.0, 8192.0, 65536.0, 524288.0, 4194304.0, 33554432.0)

# How many different values an attribute may have in one process. Those whose values the application's users could
# choose are held to it: what comes after is counted as OTHER (see bounds.py).
BOUNDS: dict[str, int] = {
    "celery.beat.entry": 200,
    "celery.task.name": 500,
    "celery.task.revoked.reason": 3,
    "celery.task.state": 8,
    "celery.worker.name": 50,
    "cpu.mode": 2,
    "cpython.gc.generation": 3,
    "db.client.connection.pool.name": 50,
    "db.client.connection.state": 2,
    "db.error.class": 8,
    "db.namespace": 50,
    "db.operation.name": 40,
    "db.system.name": 10,
    "endpoint": 1000,
    "error.type": 200,
    "error_type": 200,
    "http.request.method": 11,
    "http.response.status_code": 500,
    "http.route": 1000,
    "label": 32,
    "messaging.destination.name": 100,
    "messaging.operation.name": 3,
    "messaging.system": 10,
    "network.protocol.version": 6,
    "otel.component.name": 10,
    "otel.component.type": 10,
    "server.address": 50,
    "server.port": 50,
    "status_code": 500,
    "url.scheme": 5,
    "websocket.close_code": 32,
}
# What HTTP allows; servers let applications send more. A number cannot be OTHER, so others are left out as labels.
STATUSES = range(100, 600)
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method names it so.
OTHER = "_OTHER"
# https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits: combinations of values per instrument.
SERIES_LIMIT = 2000
OVERFLOW = {"otel.metric.overflow": True}


class Instrument(NamedTuple):
    """One instrument.

    :param scope: the part of the data path that records it
    :param kind: what it is; a counter only rises, an updown adds up over processes, a gauge does not
    :param unit: UCUM unit
    :param text: one sentence
    :param attributes: the names that its points may have; their numbers of values are in :data:`BOUNDS`
    :param buckets: of a histogram: upper bounds, in the unit
    :param merged: how one value is made of those of all processes: "sum" or "max"
    """

    scope: Literal["http", "errors", "sql", "pool", "celery", "process", "telemetry"]
    kind: Kind
    unit: str
    text: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merged: Literal["sum", "max"] = "sum"


_REQUEST = (
    "http.request.method",
    "url.scheme",
    "network.protocol.version",
    "http.route",
    "http.response.status_code",
    "error.type",
)
_DATABASE = ("db.system.name", "db.namespace", "server.address", "server.port")
_POOL = ("db.client.connection.pool.name",)
_MESSAGE = ("messaging.system", "messaging.operation.name", "celery.task.name", "messaging.destination.name")
_TASK = ("messaging.system", "celery.task.name", "messaging.destination.name")
_WORKER = ("celery.worker.name",)
_COMPONENT = ("otel.component.type", "otel.component.name")
_EXPORTER = (*_COMPONENT, "server.address", "server.port")

CATALOGUE: dict[str, Instrument] = {
    # The request.
    "http.server.request.duration": Instrument(
        "http",
        "histogram",
        "s",
        "Time from the request's arrival to the last byte of its response; background tasks are not part of it.",
        _REQUEST,
        HTTP_SECONDS,
    ),
    "http.server.active_requests": Instrument(
        "http", "updown", "{request}", "Requests whose response is not complete.", ("http.request.method", "url.scheme")
    ),
    "http.server.request.body.size": Instrument(
        "http", "histogram", "By", "Size of the request's body as the application received it.", _REQUEST, SIZE_BYTES
    ),
    "http.server.response.body.size": Instrument(
        "http", "histogram", "By", "Size of the response's body as the application sent it.", _REQUEST, SIZE_BYTES
    ),
    "http.server.request.queue.duration": Instrument(
        "http",
        "histogram",
        "s",
        "Time from the proxy in front (X-Request-Start, X-Queue-Start) to the request's arrival.",
        (),
        QUEUE_SECONDS,
    ),
    "http.server.disconnects": Instrument(
        "http",
        "counter",
        "{request}",
        "Requests whose client went away before the response was complete.",
        ("http.request.method", "http.route"),
    ),
    "websocket.server.active_connections": Instrument(
        "http", "updown", "{connection}", "WebSocket connections that are open.", ("url.scheme",)
    ),
    "websocket.server.connection.duration": Instrument(
        "http",
        "histogram",
        "s",
        "Time from the handshake of a WebSocket connection to its end, or to its refusal.",
        ("url.scheme", "http.route", "websocket.close_code", "error.type"),
        CONNECTION_SECONDS,
    ),
    # Errors of requests and of tasks.
    "commandcenter.errors": Instrument(
        "errors",
        "counter",
        "{error}",
        "Requests that ended in an error, by route template, status code and exception class; failed tasks, by task.",
        ("endpoint", "status_code", "error_type", "celery.task.name"),
    ),
    # The database.
    "db.client.operation.duration": Instrument(
        "sql",
        "histogram",
        "s",
        "Time a statement, a COMMIT, a ROLLBACK or a connect took, seen from the client.",
        (*_DATABASE, "db.operation.name", "error.type"),
        SQL_SECONDS,
    ),
    "db.client.errors": Instrument(
        "sql",
        "counter",
        "{error}",
        "Failed operations by what went wrong: deadlock, timeout, integrity, connection and others.",
        ("db.system.name", "db.namespace", "db.operation.name", "db.error.class", "error.type"),
    ),
    "db.client.rows": Instrument(
        "sql",
        "counter",
        "{row}",
        "Rows that statements returned or changed, where the driver knows their number without fetching them.",
        ("db.system.name", "db.namespace", "db.operation.name"),
    ),
    # Its connection pools.
    "db.client.connection.count": Instrument(
        "pool", "updown", "{connection}", "Connections of the pool.", (*_POOL, "db.client.connection.state")
    ),
    "db.client.connection.max": Instrument(
        "pool", "updown", "{connection}", "Connections that the pool may have, overflow included.", _POOL
    ),
    "db.client.connection.idle.max": Instrument(
        "pool", "updown", "{connection}", "Connections that the pool keeps when they are idle.", _POOL
    ),
    "db.client.connection.pending_requests": Instrument(
        "pool", "updown", "{request}", "Callers that wait for a connection.", _POOL
    ),
    "db.client.connection.timeouts": Instrument(
        "pool", "counter", "{timeout}", "Callers that waited for a connection in vain.", _POOL
    ),
    "db.client.connection.wait_time": Instrument(
        "pool", "histogram", "s", "Time it took to get a connection.", _POOL, SQL_SECONDS
    ),
    "db.client.connection.create_time": Instrument(
        "pool", "histogram", "s", "Time it took to open a connection.", _POOL, SQL_SECONDS
    ),
    "db.client.connection.use_time": Instrument(
        "pool", "histogram", "s", "Time from taking a connection to giving it back.", _POOL, SQL_SECONDS
    ),
    # Tasks: publishing.
    "messaging.client.operation.duration": Instrument(
        "celery", "histogram", "s", "Time it took to publish a task.", (*_MESSAGE, "error.type"), HTTP_SECONDS
    ),
    "messaging.client.sent.messages": Instrument(
        "celery",
        "counter",
        "{message}",
        "Tasks that were published; with error.type those that could not be.",
        (*_MESSAGE, "error.type"),
    ),
    # Tasks: in the worker.
    "messaging.client.consumed.messages": Instrument(
        "celery", "counter", "{message}", "Tasks that a worker received; a redelivered one is received again.", _MESSAGE
    ),
    "messaging.process.duration": Instrument(
        "celery",
        "histogram",
        "s",
        "Time a task took to run.",
        (*_MESSAGE, "celery.task.state", "error.type"),
        TASK_SECONDS,
    ),
    "celery.task.executions": Instrument(
        "celery",
        "counter",
        "{task}",
        "Tasks that came to an end in a worker, by outcome.",
        (*_TASK, "celery.task.state", "celery.task.revoked.reason", "error.type"),
    ),
    "celery.task.queue.duration": Instrument(
        "celery",
        "histogram",
        "s",
        "Time from the publishing of a task, or from its eta, to its start.",
        _TASK,
        WAIT_SECONDS,
    ),
    "celery.worker.up": Instrument(
        "celery",
        "gauge",
        "{worker}",
        "1 while the worker is connected to its broker and its loop turns, else 0.",
        _WORKER,
        merged="max",
    ),
    "celery.worker.heartbeat.timestamp": Instrument(
        "celery", "gauge", "s", "When the worker was last seen to be up, in Unix time.", _WORKER, merged="max"
    ),
    "celery.worker.tasks.active": Instrument(
        "celery", "gauge", "{task}", "Tasks that the worker is running.", _WORKER, merged="max"
    ),
    "celery.worker.tasks.reserved": Instrument(
        "celery",
        "gauge",
        "{task}",
        "Tasks that the worker has taken from its queues and has not finished.",
        _WORKER,
        merged="max",
    ),
    "celery.worker.pool.size": Instrument(
        "celery", "gauge", "{process}", "Tasks that the worker can run at a time.", _WORKER, merged="max"
    ),
    # Tasks: seen from outside of the workers.
    "celery.queue.messages": Instrument(
        "celery",
        "gauge",
        "{message}",
        "Tasks that wait in the queue at the broker.",
        ("messaging.system", "messaging.destination.name"),
        merged="max",
    ),
    "celery.queue.oldest.age": Instrument(
        "celery",
        "gauge",
        "s",
        "How long the oldest task in the queue has been waiting, where the broker can tell.",
        ("messaging.system", "messaging.destination.name"),
        merged="max",
    ),
    "celery.workers": Instrument(
        "celery",
        "gauge",
        "{worker}",
        "Workers whose heartbeat was heard lately, of every application that shares the broker.",
        merged="max",
    ),
    "celery.monitor.heartbeat.timestamp": Instrument(
        "celery", "gauge", "s", "When the monitor last read the broker, in Unix time.", merged="max"
    ),
    "celery.beat.heartbeat.timestamp": Instrument(
        "celery", "gauge", "s", "When the scheduler last turned, in Unix time.", merged="max"
    ),
    "celery.beat.entry.last_start.timestamp": Instrument(
        "celery",
        "gauge",
        "s",
        "When the scheduler last published the entry, in Unix time.",
        ("celery.beat.entry",),
        merged="max",
    ),
    "celery.beat.entry.last_success.timestamp": Instrument(
        "celery",
        "gauge",
        "s",
        "When a task of the entry last ended in success, in Unix time.",
        ("celery.beat.entry",),
        merged="max",
    ),
    "celery.beat.entry.next_due.timestamp": Instrument(
        "celery",
        "gauge",
        "s",
        "When the scheduler will publish the entry next, in Unix time.",
        ("celery.beat.entry",),
        merged="max",
    ),
    # The process.
    # https://opentelemetry.io/docs/specs/semconv/system/process-metrics/
    "process.cpu.time": Instrument("process", "counter", "s", "CPU time of the process.", ("cpu.mode",)),
    "process.memory.usage": Instrument("process", "updown", "By", "Resident memory of the process."),
    "process.eventloop.lag": Instrument(
        "process", "histogram", "s", "How late the event loop is when a timer is due.", (), PAUSE_SECONDS
    ),
    "process.eventloop.blocked.time": Instrument(
        "process",
        "counter",
        "s",
        "Time for which the event loop did not turn for more than 0.1 s, by the route whose code held it.",
        ("http.route",),
    ),
    "process.threadpool.tokens.used": Instrument(
        "process", "updown", "{token}", "Threads that are running synchronous endpoints and dependencies."
    ),
    "process.threadpool.tokens.max": Instrument("process", "updown", "{token}", "Threads that may run them."),
    "process.threadpool.pending_requests": Instrument(
        "process", "updown", "{request}", "Calls of them that wait for a thread."
    ),
    "process.gc.pause.duration": Instrument(
        "process",
        "histogram",
        "s",
        "Time for which a garbage collection stopped the process.",
        ("cpython.gc.generation",),
        PAUSE_SECONDS,
    ),
    # Telemetry about itself.
    # https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
    "otel.sdk.processor.span.queue.size": Instrument(
        "telemetry", "updown", "{span}", "Ended spans that wait for their export.", _COMPONENT
    ),
    "otel.sdk.processor.span.queue.capacity": Instrument(
        "telemetry", "updown", "{span}", "Ended spans that may wait for their export.", _COMPONENT
    ),
    "otel.sdk.processor.span.processed": Instrument(
        "telemetry",
        "counter",
        "{span}",
        "Ended spans that were given to the exporter; with error.type those that were dropped instead.",
        (*_COMPONENT, "error.type"),
    ),
    "otel.sdk.exporter.span.inflight": Instrument(
        "telemetry", "updown", "{span}", "Spans that the exporter has and whose export has not ended.", _EXPORTER
    ),
    "otel.sdk.exporter.span.exported": Instrument(
        "telemetry",
        "counter",
        "{span}",
        "Spans whose export ended; with error.type those that the backend did not take.",
        (*_EXPORTER, "error.type"),
    ),
    "otel.sdk.exporter.metric_data_point.exported": Instrument(
        "telemetry",
        "counter",
        "{data_point}",
        "Points of metrics whose export ended; with error.type those that the backend did not take.",
        (*_EXPORTER, "error.type"),
    ),
    "otel.sdk.exporter.operation.duration": Instrument(
        "telemetry",
        "histogram",
        "s",
        "Time an export of spans or metrics took, its retries included.",
        (*_EXPORTER, "http.response.status_code", "error.type"),
        HTTP_SECONDS,
    ),
    "commandcenter.metrics.overflow": Instrument(
        "telemetry",
        "counter",
        "{value}",
        "Times that a value beyond the bound of its label became _OTHER; labels that are kept are not counted again.",
        ("label",),
    ),
}

_UNITS = {"s": "seconds", "By": "bytes"}


def prometheus_name(name: str) -> str:
    """The name under which Prometheus shows an instrument; a histogram has ``_bucket``, ``_sum`` and ``_count`` after it.

    :raises KeyError: the catalogue has no such instrument
    """
    # https://github.com/prometheus/otlptranslator: dots become underscores, the unit and _total are suffixes.
    entry = CATALOGUE[name]
    words = name.replace(".", "_")
    unit = _UNITS.get(entry.unit)
    if unit is not None and unit not in words.split("_"):
        words += f"_{unit}"
    return f"{words}_total" if entry.kind == "counter" else words
