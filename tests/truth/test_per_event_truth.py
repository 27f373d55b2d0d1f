"""What an event costs in metrics: a gauge is read when metrics are collected, and nobody tells the SDK of its changes.

Counted is what the SDK's instruments are told. Our histograms write into the SDK's own aggregations once a combination of
labels is known, and our counters are read like gauges, so what is left for an event is nothing.
"""

from __future__ import annotations

import httpx

from otel_cc.local.sink import Sink
from tests.conftest import Launch

APP = """
import collections

from celery import Celery
from fastapi import FastAPI
from opentelemetry import metrics
from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer
from sqlalchemy import create_engine, text

told = collections.Counter()
consume = SynchronousMeasurementConsumer.consume_measurement


def counting(self, measurement):
    told[measurement.instrument.name] += 1
    consume(self, measurement)


SynchronousMeasurementConsumer.consume_measurement = counting
engine = create_engine("sqlite:///events.db")
celery = Celery(broker="memory://")
by_hand = metrics.get_meter("app").create_up_down_counter("by_hand")
app = FastAPI()


@app.get("/works")
def works() -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT 1")).all()
    celery.send_task("task")


@app.get("/by-hand")
def count_by_hand() -> None:
    by_hand.add(1)
    by_hand.add(-1)


@app.get("/told")
def read_told() -> dict[str, int]:
    return told
"""
EVENTS = 50


def test_requests_statements_and_published_tasks_tell_the_sdk_nothing(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files={"app.py": APP}, env={"OTEL_METRIC_EXPORT_INTERVAL": "600000"})
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def told() -> dict[str, int]:
            found: dict[str, int] = client.get("/told").json()
            return found

        def ask(path: str) -> dict[str, int]:
            for _ in range(20):
                client.get(path).raise_for_status()
            before = told()
            for _ in range(EVENTS):
                client.get(path).raise_for_status()
            more = {name: number - before.get(name, 0) for name, number in told().items()}
            # The first measurement with some labels is told: of the loop's lag, or an export, in the meantime.
            return {name: number for name, number in more.items() if number >= EVENTS}

        # The count sees what is told.
        assert ask("/by-hand") == {"by_hand": 2 * EVENTS}
        assert ask("/works") == {}
    server.process.stop()
    counts = {
        name: sum(point.count for point in sink.latest(name))
        for name in ("db.client.connection.use_time", "messaging.client.operation.duration")
    }
    assert counts == dict.fromkeys(counts, 20 + EVENTS)
    for gauge in ("http.server.active_requests", "db.client.connection.count"):
        assert sink.latest(gauge), gauge
