"""A line in PostgreSQL's log leads to the trace of the request that caused it, and shows none of its values."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import psycopg
import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import postgres as local_postgres
from otel_cc.local.collector import Collector
from otel_cc.local.postgres import Postgres
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.signals import LogRecord
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK

CONFIG = {
    "log_statement": "none",
    "log_min_duration_statement": "0",
    "shared_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
}


@pytest.fixture
def database(processes: Processes) -> Postgres:
    return local_postgres.start(processes, config=CONFIG, jsonlog=True)


@pytest.fixture
def reading(processes: Processes, sink: Sink, database: Postgres) -> Collector:
    env = {
        **QUICK,
        "OTEL_CC_TRACES_URL": sink.endpoint,
        "OTEL_CC_PROMETHEUS_URL": sink.endpoint,
        "OTEL_CC_LOGS_URL": f"{sink.endpoint}/v1/logs",
        "OTEL_CC_POSTGRES_LOGS": str(database.log_file.with_suffix(".json")),
    }
    collector = local_collector.start(processes, overlays=["local", "logs"], env=env)
    wait_until(lambda: "Started watching file" in collector.process.output(), 30, "the log being read")
    return collector


def parent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-03"


def lines(sink: Sink, number: int, count: int) -> list[LogRecord]:
    """The lines that belong to a trace."""
    return wait_until(
        lambda: found if len(found := [r for r in sink.logs() if r.trace_id == f"{number:032x}"]) >= count else [],
        30,
        f"{count} lines of trace {number}",
    )


def test_each_line_carries_the_trace_of_its_request(database: Postgres, reading: Collector, sink: Sink) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (name text PRIMARY KEY)")
        # In a comment: a duration, a plan, and an error that quotes the values.
        connection.execute(f"/*traceparent='{parent(1)}'*/ INSERT INTO people VALUES ('Lovelace')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(f"/*traceparent='{parent(2)}'*/ INSERT INTO people VALUES ('Lovelace')")
        # In application_name, where a statement has no comment.
        connection.execute(f"SET application_name = '{parent(3)}'")
        connection.execute("SELECT name FROM people WHERE name = 'Hopper'")
    plan, took = sorted((str(line.body) for line in lines(sink, 1, 2)), key=lambda body: "plan:" not in body)
    assert "plan:" in plan and "Query Text" in plan
    assert "duration:" in took and parent(1) in took and "VALUES (?)" in took
    (error,) = lines(sink, 2, 1)
    assert error.attributes["error_severity"] == "ERROR" and "duplicate key" in str(error.body)
    assert error.attributes["detail"] == "Key (name)=(?)"
    assert any("WHERE name = ?" in str(line.body) for line in lines(sink, 3, 2))
    assert {line.resource["service.name"] for line in lines(sink, 1, 2)} == {"postgresql"}
    everything = "".join(f"{record.body}{record.attributes}" for record in sink.logs())
    assert "Lovelace" not in everything and "Hopper" not in everything


def test_no_line_is_lost_while_the_collector_is_away(database: Postgres, reading: Collector, sink: Sink) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        for number in range(10, 20):
            connection.execute(f"/*traceparent='{parent(number)}'*/ SELECT 1")
        lines(sink, 19, 2)
        reading.process.kill()
        for number in range(20, 30):
            connection.execute(f"/*traceparent='{parent(number)}'*/ SELECT 1")
    reading.start()
    for number in range(10, 30):
        lines(sink, number, 2)


def test_no_line_is_lost_when_the_collector_is_killed_while_lines_are_written(
    processes: Processes, sink: Sink, tmp_path: Path
) -> None:
    file = tmp_path / "postgresql.json"
    # An empty file is not watched.
    file.write_text("{}\n")
    env = {
        **QUICK,
        "OTEL_CC_TRACES_URL": sink.endpoint,
        "OTEL_CC_PROMETHEUS_URL": sink.endpoint,
        "OTEL_CC_LOGS_URL": f"{sink.endpoint}/v1/logs",
        "OTEL_CC_POSTGRES_LOGS": str(file),
    }
    collector = local_collector.start(processes, overlays=["local", "logs"], env=env)
    wait_until(lambda: "Started watching file" in collector.process.output(), 30, "the log being read")
    end = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with file.open("a") as log:
            while not end.wait(0.005):
                entry = {
                    "timestamp": "2026-11-26 12:00:00.000 UTC",
                    "error_severity": "LOG",
                    "message": f"line {written}",
                }
                log.write(json.dumps(entry) + "\n")
                log.flush()
                written += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(8):
            before = len(sink.logs())
            wait_until(lambda before=before: len(sink.logs()) > before, 30, "a line")
            # At another moment of its turn of 200 ms each time.
            end.wait(0.03 * number)
            collector.process.kill()
            collector.start()
    finally:
        end.set()
        thread.join()
    wait_until(lambda: any(record.body == f"line {written - 1}" for record in sink.logs()), 30, "the last line")
    missing = {f"line {number}" for number in range(written)} - {str(record.body) for record in sink.logs()}
    assert not missing
