"""The catalogue: every instrument that we emit, as data. Names follow the semantic conventions where one exists."""

from __future__ import annotations

from dataclasses import dataclass

# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#metric-dbclientoperationduration
SQL_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
# The convention's buckets end at 10 s; tasks run longer.
TASK_SECONDS = (*HTTP_SECONDS, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True)
class Instrument:
    """One histogram.

    :param scope: which part of the data path records it: http, sql or celery
    :param unit: UCUM unit
    :param buckets: upper bounds, in the unit
    :param text: one sentence
    """

    scope: str
    unit: str
    buckets: tuple[float, ...]
    text: str


CATALOGUE: dict[str, Instrument] = {
    "http.server.request.duration": Instrument(
        "http", "s", HTTP_SECONDS, "Time from the request's arrival to the last byte of its response."
    ),
    "db.client.operation.duration": Instrument("sql", "s", SQL_SECONDS, "Time a statement took, seen from the client."),
    "messaging.client.operation.duration": Instrument("celery", "s", HTTP_SECONDS, "Time it took to publish a task."),
    "messaging.process.duration": Instrument("celery", "s", TASK_SECONDS, "Time a task took to run."),
}
