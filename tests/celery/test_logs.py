"""Log records of a worker reach the SDK, although Celery takes every handler from the root logger."""

from __future__ import annotations

import re

import celery
import pytest

from otel_cc.local.process import wait_until
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch

FILES = {
    "tasks.py": """
import logging
import os

from celery import Celery
from celery.utils.log import get_task_logger

app = Celery("tasks", broker=os.environ["BROKER"])


@app.task
def says() -> None:
    logging.getLogger("shop").warning("a log line of the application")
    get_task_logger(__name__).warning("a log line of a task logger")
""",
    "publish.py": "import tasks\n\ntasks.says.delay()\n",
}


ENV = {
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_lines_of_a_task_are_exported_once_with_its_trace(
    launch: Launch, sink: Sink, valkey: Valkey, pool: str
) -> None:
    env = {**ENV, "BROKER": valkey.database(9)}
    worker = launch.worker("--pool", pool, "-c", "1", files=FILES, env=env)
    launch(["python", "publish.py"], files=FILES, env=env, wait=False)

    def lines() -> list[str]:
        return sorted(str(record.body) for record in sink.logs() if "a log line" in str(record.body))

    wait_until(lambda: len(lines()) >= 2, 30, "two lines")
    worker.stop()
    assert lines() == ["a log line of a task logger", "a log line of the application"]
    run = sink.wait_spans(1, where=lambda span: span.kind == "CONSUMER")[0]
    said = [record for record in sink.logs() if "a log line" in str(record.body)]
    assert {(record.trace_id, record.span_id) for record in said} == {(run.trace_id, run.span_id)}


def test_a_task_with_an_eta_is_exported_without_a_complaint(launch: Launch, sink: Sink, valkey: Valkey) -> None:
    files = {**FILES, "publish.py": "import tasks\n\ntasks.says.apply_async(countdown=0.5)\n"}
    env = {**ENV, "BROKER": valkey.database(9)}
    worker = launch.worker("--pool", "solo", files=files, env=env)
    launch(["python", "publish.py"], files=files, env=env, wait=False)
    sink.wait_spans(1, where=lambda span: span.kind == "CONSUMER")
    worker.stop()
    assert "Invalid type" not in worker.output() + "".join(str(record.body) for record in sink.logs())
    (received,) = [record for record in sink.logs() if str(record.body).endswith("received")]
    data = received.attributes["data"]
    assert isinstance(data, dict)
    # Celery 5.3 tells none.
    if celery.VERSION >= (5, 7):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\S+", data["eta"])
