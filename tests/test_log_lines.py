"""What real servers and workers write in each format, whatever they and the application configure themselves."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_cc.local.process import Process, says, wait_until
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch

APP = """
import logging
import logging.config

from fastapi import FastAPI

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "app %(levelname)s [%(request_id)s] %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    }
)
app = FastAPI()


@app.get("/ok")
async def ok():
    logging.getLogger("shop").info("café", extra={"number": 7})


@app.get("/broken")
async def broken():
    raise ValueError("a bug")
"""
SENT = {"X-Request-ID": "order-42"}


def ask(url: str) -> None:
    assert httpx.get(f"{url}/ok", headers=SENT, timeout=30).status_code == 200
    assert httpx.get(f"{url}/broken", headers=SENT, timeout=30).status_code == 500


def objects(text: str) -> list[dict[str, Any]]:
    """Each line as an object; fails on a line that is none."""
    return [json.loads(line) for line in text.splitlines()]


def of(lines: list[dict[str, Any]], logger: str, message: str = "") -> dict[str, Any]:
    return next(line for line in lines if line["logger"] == logger and message in line["message"])


def complete(line: dict[str, Any]) -> bool:
    moment = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    return bool(moment) and {"level", "logger", "message", "request_id", "trace_id", "span_id"} <= set(line)


def check_requests(lines: list[dict[str, Any]]) -> None:
    assert all(map(complete, lines))
    own = of(lines, "shop")
    assert (own["message"], own["level"], own["number"]) == ("café", "INFO", 7)
    access = of(lines, "uvicorn.access", "/ok")
    crash = of(lines, "uvicorn.error", "Exception in ASGI application")
    assert [line["request_id"] for line in (own, access, crash)] == ["order-42"] * 3
    assert len({own["trace_id"], access["trace_id"]}) == 1
    assert all(re.fullmatch("[0-9a-f]{32}", line["trace_id"]) for line in (own, access, crash))
    assert all(re.fullmatch("[0-9a-f]{16}", line["span_id"]) for line in (own, access, crash))
    assert (crash["exception"]["type"], crash["exception"]["message"]) == ("ValueError", "a bug")
    assert crash["exception"]["stacktrace"].rstrip().endswith("ValueError: a bug")
    start = of(lines, "otel_cc")
    assert (start["level"], start["request_id"]) == ("INFO", "")


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_every_line_of_uvicorn_is_json(launch: Launch, sink: Sink, workers: list[str]) -> None:
    server = launch.uvicorn(*workers, files={"app.py": APP}, env={"OTEL_CC_LOG_FORMAT": "json"})
    ask(server.url)
    server.process.stop()
    # Upstream says this in a helper process of Python's own, in which nothing of ours is installed.
    text = server.process.output().replace("Configuration of configurator not loaded, otel_cc already loaded\n", "")
    check_requests(objects(text))


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_every_line_of_gunicorn_is_json(launch: Launch, sink: Sink, preload: list[str]) -> None:
    server = launch.gunicorn(
        *preload, "--access-logfile", "-", files={"app.py": APP}, env={"OTEL_CC_LOG_FORMAT": "json"}
    )
    ask(server.url)
    server.process.stop()
    lines = objects(server.process.output())
    check_requests(lines)
    assert of(lines, "gunicorn.error", "Booting worker")["level"] == "INFO"


def test_text_has_the_id_in_brackets_on_every_line_of_a_request(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files={"app.py": APP}, env={"OTEL_CC_LOG_FORMAT": "text"})
    ask(server.url)
    server.process.stop()
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    text = server.process.output()
    for expected in (
        r"INFO shop \[order-42\] café",
        r'INFO uvicorn\.access \[order-42\] 127\.0\.0\.1:\d+ - "GET /ok HTTP/1\.1" 200',
        r"ERROR uvicorn\.error \[order-42\] Exception in ASGI application\nTraceback",
        r"INFO uvicorn\.error \[-\] Application startup complete\.",
        r"INFO otel_cc \[-\] otel-cc ",
    ):
        assert re.search(f"^{moment} {expected}", text, re.MULTILINE), expected


def test_keep_changes_no_line_and_the_fields_are_there(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files={"app.py": APP})
    ask(server.url)
    server.process.stop()
    lines = server.process.output().splitlines()
    assert "app INFO [order-42] café" in lines
    assert any(re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET /ok HTTP/1\.1" 200 OK', line) for line in lines)
    assert "ERROR:    Exception in ASGI application" in lines


CONFIG = """
version: 1
disable_existing_loggers: false
formatters:
  ids: {format: "%(name)s [%(request_id)s] %(message)s"}
handlers:
  out: {class: logging.StreamHandler, formatter: ids, stream: ext://sys.stdout}
loggers:
  uvicorn: {handlers: [out], level: INFO, propagate: false}
"""


def test_the_servers_own_records_have_the_fields_for_a_format_of_the_users(launch: Launch, sink: Sink) -> None:
    files = {"app.py": APP, "log.yaml": CONFIG}
    server = launch.uvicorn("--log-config", "log.yaml", files=files)
    ask(server.url)
    server.process.stop()
    text = server.process.output()
    assert re.search(r'^uvicorn\.access \[order-42\] .*"GET /ok HTTP/1\.1" 200$', text, re.MULTILINE)
    assert "uvicorn.error [order-42] Exception in ASGI application" in text
    assert "uvicorn.error [] Application startup complete." in text


TASKS = """
import logging
import os

from celery import Celery
from celery.utils.log import get_task_logger

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.beat_schedule = {"tick": {"task": "work", "schedule": 0.3, "args": ("secret",)}}
log = get_task_logger("tasks.own")


@app.task(name="work")
def work(word):
    log.info("a task's logger")
    logging.getLogger("library").warning("a plain logger")
    print("printed")
    raise ValueError("a bug")
"""


def stderr(process: Process) -> str:
    """What is logged: Celery prints its banner to standard output."""
    return Path(process.err).read_text()


def test_every_line_of_a_celery_worker_and_of_beat_is_json(
    launch: Launch, sink: Sink, valkey: Valkey, tmp_path: Path
) -> None:
    # The warning about running as root is printed by Python, before Celery makes records of warnings.
    env = {"BROKER": valkey.database(7), "OTEL_CC_LOG_FORMAT": "json", "PYTHONWARNINGS": "ignore"}
    files = {"tasks.py": TASKS}
    worker = launch.worker("--concurrency", "1", files=files, env=env)
    beat = launch(
        ["celery", "-A", "tasks", "beat", "--schedule", str(tmp_path / "schedule"), "--loglevel", "INFO"],
        name="beat",
        files=files,
        env=env,
        ready=says("Sending due task"),
    )
    wait_until(lambda: "a bug" in stderr(worker), 30, "a task has failed")
    beat.stop()
    worker.stop(timeout=60)
    assert all(map(complete, objects(stderr(beat))))
    assert of(objects(stderr(beat)), "celery.beat", "Sending due task")["level"] == "INFO"

    # Celery 5.3 prints this to standard error, newer ones to standard output.
    lines = objects(re.sub(r"\nworker: Warm shutdown \(MainProcess\)\n", "", stderr(worker)))
    assert all(map(complete, lines))
    own = of(lines, "tasks.own", "a task's logger")
    request_id = own["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert own["task_name"] == "work"
    same = [line for line in lines if line["request_id"] == request_id]
    assert {"library", "celery.redirected", "celery.app.trace"} <= {line["logger"] for line in same}
    failed = of(same, "celery.app.trace", "raised unexpected")
    assert (failed["exception"]["type"], failed["task_name"], failed["task_id"]) == (
        "ValueError",
        "work",
        own["task_id"],
    )
    assert not any("secret" in str({**line, "message": ""}) for line in lines)
    assert of(lines, "otel_cc")["request_id"] == ""


def test_a_plain_program_shows_our_warnings_and_crashes_as_without_us(launch: Launch, sink: Sink) -> None:
    program = "import logging; logging.warning('one'); logging.getLogger('a').error('two', exc_info=ValueError('x'))"
    process = launch([sys.executable, "-c", program], env={"OTEL_CC_LOG_FORMAT": "json"})
    assert process.wait(60) == 0
    assert [line["message"] for line in objects(stderr(process))] == ["one", "two"]
