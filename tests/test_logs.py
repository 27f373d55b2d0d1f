"""The IDs on every record of app, server and libraries; nothing that is logged can break the application."""

from __future__ import annotations

import asyncio
import builtins
import copy
import logging
import pickle
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_cc import context, logs
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


def left_request() -> ValueError:
    error = ValueError("x")
    setattr(error, logs.MARK, ("order-42", "a" * 32, "b" * 16))
    return error


def test_an_exception_that_left_its_request_still_carries_the_ids(seen: Records) -> None:
    error = left_request()
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
    assert pickle.loads(pickle.dumps(record)).request_id == copy.copy(record).request_id == "order-42"  # type: ignore[attr-defined]
    with request():
        received = logging.makeLogRecord({"msg": "from elsewhere"})
    assert received.request_id == ""  # type: ignore[attr-defined]
    assert logging.Formatter("%(request_id)s|%(message)s").format(received) == "|from elsewhere"


class Careless(logging.Logger):
    """A logger of the application's own that makes its records itself."""

    def makeRecord(
        self, name: str, level: int, fn: str, lno: int, msg: object, *args: object, **_: object
    ) -> logging.LogRecord:
        return logging.LogRecord(name, level, fn, lno, msg, (), None)


def test_records_made_another_way_have_the_fields_when_they_are_formatted(seen: Records) -> None:
    careless = Careless("careless")
    careless.addHandler(seen)
    with request():
        careless.warning("x")
        seen.handle(logging.LogRecord("direct", logging.INFO, "", 0, "x", (), None))
    assert seen.ids() == [IDS, IDS]
    assert [logging.Formatter("%(request_id)s").format(record) for record in seen.records] == ["order-42"] * 2


def test_a_record_factory_of_the_applications_own_wins(seen: Records) -> None:
    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = original(*args, **kwargs)
        record.request_id = "of the factory"
        return record

    original = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        with request():
            log.info("x")
    finally:
        logging.setLogRecordFactory(original)
    assert seen.ids() == [("of the factory", *IDS[1:])]


def test_a_line_written_while_such_an_exception_is_handled_carries_the_ids(seen: Records) -> None:
    try:
        raise left_request()
    except ValueError:
        # uvicorn's access line of the error page that it sends itself.
        log.info("500 Internal Server Error")
        with request():
            log.info("of a request of its own")
    log.info("later")
    assert seen.ids() == [("order-42", "a" * 32, "b" * 16), IDS, ("", "", "")]


def test_a_record_goes_through_a_queue_with_its_ids(seen: Records) -> None:
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    sender = QueueHandler(waiting)
    logger = logging.getLogger("queued")
    logger.propagate = False
    logger.addHandler(sender)
    listener = QueueListener(waiting, seen)
    listener.start()
    with request():
        logger.warning("x")
    listener.stop()
    logger.removeHandler(sender)
    assert seen.ids() == [IDS]


@pytest.mark.parametrize("info", [True, 1, (None, None, None), ()])
def test_odd_exception_information_is_no_crash(seen: Records, info: object) -> None:
    log.info("x", exc_info=info)  # type: ignore[arg-type]
    record = log.makeRecord("n", logging.INFO, "", 0, "x", (), info)  # type: ignore[arg-type]
    assert [*seen.ids(), record.request_id] == [("", "", ""), ""]  # type: ignore[attr-defined]


def test_installing_twice_and_uninstalling_leaves_logging_as_it_was() -> None:
    before = (logging.Logger.makeRecord, logging.makeLogRecord, logging.Handler.handle, logging.Handler.format)
    ours = logging.getLogger("otel_cc")
    state = (type(ours), ours.level, list(ours.handlers))
    logs.install()
    logs.install()
    assert logging.Logger.makeRecord is not before[0]
    logs.uninstall()
    assert (logging.Logger.makeRecord, logging.makeLogRecord, logging.Handler.handle, logging.Handler.format) == before
    assert (type(ours), ours.level, list(ours.handlers)) == state
