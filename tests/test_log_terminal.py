"""Whose lines are written in our format: those on the terminal, unless the application chose JSON itself."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import queue
import sys
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path

import pytest
import structlog
from uvicorn.logging import AccessFormatter

from otel_cc import log_format, log_terminal, logs, settings


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error, as a stream in memory, while every record on it is JSON."""
    monkeypatch.setenv("OTEL_CC_LOG_FORMAT", "json")
    settings.get.cache_clear()
    stream = io.StringIO()
    # Not sys.stderr: pytest puts its own there before each step of a test.
    monkeypatch.setattr(sys, "__stderr__", stream)
    logs.install()
    yield stream
    logs.uninstall()
    settings.get.cache_clear()


def write(handler: logging.Handler, message: str = "m", **values: object) -> None:
    handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": message, **values}))


FORMATTERS = {
    "none": None,
    "text": logging.Formatter("%(levelname)s %(message)s"),
    "looks like JSON": logging.Formatter('{"message": "%(message)s"}'),
    "uvicorn": AccessFormatter("%(client_addr)s %(status_code)s"),
}


@pytest.mark.parametrize("name", FORMATTERS)
def test_a_handler_on_the_terminal_writes_our_format(formatted: io.StringIO, name: str) -> None:
    handler = logging.StreamHandler(formatted)
    handler.setFormatter(FORMATTERS[name])
    write(handler, 'a "quoted" one')
    assert json.loads(formatted.getvalue())["message"] == 'a "quoted" one'


class Hand(logging.Formatter):
    """JSON that an application writes without any library."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"mine": record.getMessage()})


def test_a_format_that_is_json_already_is_left_alone(formatted: io.StringIO) -> None:
    handler = logging.StreamHandler(formatted)
    handler.setFormatter(Hand())
    write(handler)
    assert formatted.getvalue() == '{"mine": "m"}\n'


def test_a_formatter_of_structlog_is_left_alone(formatted: io.StringIO) -> None:
    handler = logging.StreamHandler(formatted)
    renderer = structlog.processors.KeyValueRenderer(key_order=["event"])
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer))
    write(handler)
    assert formatted.getvalue() == "event='m' request_id='' trace_id='' span_id=''\n"


def test_files_and_other_streams_keep_their_format(formatted: io.StringIO, tmp_path: Path) -> None:
    other = io.StringIO()
    file = logging.FileHandler(tmp_path / "log")
    for handler in (logging.StreamHandler(other), file):
        handler.setFormatter(logging.Formatter("theirs: %(message)s"))
        write(handler)
    file.close()
    assert other.getvalue() == (tmp_path / "log").read_text() == "theirs: m\n"


def test_what_is_configured_later_changes_nothing(formatted: io.StringIO) -> None:
    handler = logging.StreamHandler(formatted)
    write(handler)
    handler.setFormatter(logging.Formatter("later: %(message)s"))
    write(handler)
    handler.setFormatter(Hand())
    write(handler)
    handler.setStream(other := io.StringIO())
    write(handler)
    lines = [json.loads(line) for line in formatted.getvalue().splitlines()]
    assert [line.get("message") or line.get("mine") for line in lines] == ["m", "m", "m"]
    assert other.getvalue() == '{"mine": "m"}\n'


def test_an_exception_stays_one_on_its_way_through_a_queue(formatted: io.StringIO) -> None:
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = QueueListener(waiting, logging.StreamHandler(formatted))
    listener.start()
    error = ValueError("x")
    write(QueueHandler(waiting), exc_info=(ValueError, error, None))
    listener.stop()
    line = json.loads(formatted.getvalue())
    assert line["message"] == "m"
    assert line["exception"] == {"type": "ValueError", "message": "x", "stacktrace": "ValueError: x\n"}


def test_a_failing_format_costs_no_record(
    formatted: io.StringIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OTEL_CC_STRICT", raising=False)
    monkeypatch.setattr("otel_cc.guard._seen", set())
    monkeypatch.setattr(log_format.JsonFormatter, "format", lambda *_: 1 / 0)
    write(logging.StreamHandler(formatted))
    assert "m\n" in formatted.getvalue()
    assert "otel-cc failed in the log format" in caplog.text


def test_a_handler_on_dev_stdout_is_one_on_the_terminal() -> None:
    read, write_end = os.pipe()
    handler = logging.StreamHandler(os.fdopen(write_end, "w"))
    assert not log_terminal._is_terminal(handler, handler.stream)
    saved = os.dup(1)
    try:
        os.dup2(write_end, 1)
        assert log_terminal._is_terminal(handler, handler.stream)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        handler.stream.close()
        os.close(read)
