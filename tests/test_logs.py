"""The IDs on every record of app, server and libraries; nothing that is logged can break the application."""

from __future__ import annotations

import asyncio
import builtins
import copy
import io
import json
import logging
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_cc import context, log_format, logs
from otel_cc.context import Correlation

TRACE_ID = 0x0B6D5C5F6F6C4D0E9C2B1A7F3E8D9C10
IDS = ("order-42", f"{TRACE_ID:032x}", "")


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def ids(self) -> list[tuple[str, str, str]]:
        return [(r.request_id, r.trace_id, r.span_id) for r in self.records]  # type: ignore[attr-defined]


@pytest.fixture
def seen() -> Iterator[Records]:
    logs.install()
    handler = Records()
    logger = logging.getLogger("test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logs.uninstall()


log = logging.getLogger("test")


@contextmanager
def request() -> Iterator[Correlation]:
    correlation = Correlation("order-42", TRACE_ID)
    token = context.attach(correlation)
    yield correlation
    context.detach(token)


def test_a_record_of_a_request_carries_its_ids(seen: Records) -> None:
    with request():
        log.info("plain call")
        log.getChild("child").warning("of a %s", "library")
    assert seen.ids() == [IDS, IDS]


def test_the_current_span_is_on_the_record(seen: Records) -> None:
    with request():
        span = TracerProvider().get_tracer("t").start_span("s")
        with trace.use_span(span):
            log.info("x")
    found = span.get_span_context()
    assert seen.ids() == [("order-42", f"{found.trace_id:032x}", f"{found.span_id:016x}")]


def test_outside_of_a_request_the_fields_are_empty(seen: Records) -> None:
    log.info("x")
    assert seen.ids() == [("", "", "")]


def test_an_extra_of_the_applications_own_does_not_crash_and_stays(seen: Records) -> None:
    with request():
        log.info("x", extra={"request_id": "mine"})
        logging.LoggerAdapter(log, {"trace_id": "theirs"}).info("x")
    assert seen.ids() == [("mine", *IDS[1:]), ("order-42", "theirs", "")]


def test_threads_and_tasks_have_the_ids_of_their_own_context(seen: Records) -> None:
    async def work() -> None:
        with request():
            await asyncio.to_thread(log.info, "in a thread of the request")
            await asyncio.create_task(asyncio.sleep(0))
            log.info("after it")

    asyncio.run(work())
    thread = threading.Thread(target=log.info, args=("of nobody",))
    thread.start()
    thread.join()
    assert seen.ids() == [IDS, IDS, ("", "", "")]


def test_an_exception_that_left_its_request_still_carries_the_ids(seen: Records) -> None:
    error = ValueError("x")
    error.__otel_cc_correlation__ = ("order-42", "a" * 32, "b" * 16)  # type: ignore[attr-defined]
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    for shown in (error, wrapped):
        log.error("Exception in ASGI application", exc_info=shown)
    if sys.version_info >= (3, 11):
        group = vars(builtins)["ExceptionGroup"]("group", [KeyError("y"), error])
        log.error("Exception in ASGI application", exc_info=group)
    assert set(seen.ids()) == {("order-42", "a" * 32, "b" * 16)}


def test_a_cycle_of_causes_ends(seen: Records) -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    log.error("x", exc_info=first)
    assert seen.ids() == [("", "", "")]


def test_records_survive_copying_pickling_and_another_process(seen: Records) -> None:
    with request():
        log.info("x")
    (record,) = seen.records
    assert pickle.loads(pickle.dumps(record)).request_id == copy.copy(record).request_id == "order-42"
    with request():
        received = logging.makeLogRecord({"msg": "from elsewhere"})
    assert received.request_id == ""  # type: ignore[attr-defined]
    assert logging.Formatter("%(request_id)s|%(message)s").format(received) == "|from elsewhere"


def test_structlog_events_carry_the_ids(seen: Records) -> None:
    out = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(out), processors=[structlog.processors.JSONRenderer()])
    with request():
        logger.info("event", n=1)
        logger.bind(request_id="bound").info("event")
        logger.info("event", request_id="mine")
    logger.info("outside")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["request_id"] for line in lines] == ["order-42", "bound", "mine", ""]
    assert lines[0] == {"event": "event", "n": 1, "request_id": "order-42", "trace_id": IDS[1], "span_id": ""}


def test_structlog_through_stdlib_shows_one_id(seen: Records) -> None:
    logger = structlog.wrap_logger(
        log, wrapper_class=structlog.stdlib.BoundLogger, processors=[structlog.stdlib.render_to_log_kwargs]
    )
    with request():
        logger.info("event", n=1)
    assert seen.ids() == [IDS]


HOSTILE = {
    "cyclic": (cycle := []),
    "not a number": float("nan"),
    "keys": {("a", 1): 2},
    "surrogate": "\ud800",
    "object": type("Bad", (), {"__str__": lambda self: 1 / 0})(),
    "nul": "\0\r\n",
}
cycle.append(cycle)


def record(**values: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "m", "created": 0.0, **values})


@pytest.mark.parametrize("name", HOSTILE)
def test_json_never_fails_on_what_is_logged(name: str) -> None:
    line = log_format.JsonFormatter().format(record(**{name: HOSTILE[name]}))
    assert "\n" not in line
    assert json.loads(line)["message"] == "m"


def test_json_has_the_fields_extras_and_exception() -> None:
    try:
        raise KeyError("k")
    except KeyError:
        info = sys.exc_info()
    line = json.loads(log_format.JsonFormatter().format(record(exc_info=info, order=7, request_id="r")))
    stacktrace = line["exception"].pop("stacktrace")
    assert stacktrace.startswith("Traceback") and stacktrace.endswith("KeyError: 'k'\n")
    assert line == {
        "timestamp": "1970-01-01T00:00:00.000Z", "level": "INFO", "logger": "n", "message": "m", "order": 7,
        "request_id": "r", "trace_id": "", "span_id": "", "exception": {"type": "KeyError", "message": "'k'"},
    }  # fmt: skip


def test_text_is_one_readable_line() -> None:
    line = log_format.TextFormatter().format(record(request_id="r"))
    assert line == "1970-01-01T00:00:00.000Z INFO n [r] m"


def test_arguments_that_do_not_fit_are_shown_not_lost() -> None:
    assert json.loads(log_format.JsonFormatter().format(record(msg="%d", args=("x",))))["message"] == "%d ('x',)"
