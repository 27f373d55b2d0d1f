"""The IDs on every event of structlog, natively and through logging; what the application bound wins."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from otel_cc import context, logs, report, structlog_fields
from otel_cc.context import Correlation

IDS = {"request_id": "order-42", "trace_id": "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c10", "span_id": ""}
NONE = {"request_id": "", "trace_id": "", "span_id": ""}
JSON = structlog.processors.JSONRenderer()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    logs.install()
    token = context.attach(Correlation("order-42", int(IDS["trace_id"], 16)))
    yield
    context.detach(token)
    logs.uninstall()


class Out:
    """A native logger of structlog's that writes JSON."""

    def __init__(self, *processors: Any, **options: Any) -> None:
        self.stream = io.StringIO()
        printer = structlog.PrintLogger(self.stream)
        self.log = structlog.wrap_logger(printer, processors=[*processors, JSON], **options)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def outside() -> Any:
    return context.attach(None)


def test_an_event_carries_the_ids() -> None:
    out = Out()
    out.log.info("event", n=1)
    token = outside()
    out.log.info("event")
    context.detach(token)
    assert out.lines() == [{"event": "event", "n": 1, **IDS}, {"event": "event", **NONE}]


def test_what_the_application_bound_or_gave_wins() -> None:
    out = Out(merge_contextvars)
    out.log.bind(request_id="bound").info("event")
    out.log.info("event", request_id="given")
    with bound_contextvars(request_id="of the context"):
        out.log.info("event")
    out.log.info("event")
    found = ["bound", "given", "of the context", "order-42"]
    assert out.lines() == [{"event": "event", **IDS, "request_id": request_id} for request_id in found]


def test_filtering_and_asynchronous_loggers_carry_the_ids() -> None:
    out = Out(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    out.log.debug("not shown")
    out.log.info("event")
    asyncio.run(out.log.ainfo("event"))
    assert out.lines() == [{"event": "event", **IDS}] * 2


def test_an_exception_that_left_its_request_carries_the_ids() -> None:
    error = ValueError("x")
    setattr(error, logs.MARK, ("left", "a" * 32, "b" * 16))
    out = Out(lambda _, __, event: {**event, "exc_info": None})
    token = outside()
    out.log.error("event", exc_info=error)
    out.log.error("event", exc_info=(ValueError, error, None))
    try:
        raise error
    except ValueError:
        out.log.exception("event")
    context.detach(token)
    assert [line["request_id"] for line in out.lines()] == ["left"] * 3


@pytest.fixture
def formatter() -> Iterator[Any]:
    """A ProcessorFormatter's handler on the root of a small tree of loggers, and what it wrote."""
    root = logging.getLogger("tree")
    root.setLevel(logging.INFO)
    root.propagate = False
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root.addHandler(handler)

    def configure(**options: Any) -> Any:
        handler.setFormatter(ProcessorFormatter(processor=JSON, **options))
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    yield configure
    root.removeHandler(handler)


def stdlib(*processors: Any, last: Any = ProcessorFormatter.wrap_for_formatter) -> Any:
    return structlog.wrap_logger(
        logging.getLogger("tree.app"), wrapper_class=structlog.stdlib.BoundLogger, processors=[*processors, last]
    )


@pytest.mark.parametrize("chain", [None, [merge_contextvars], [ExtraAdder()], [merge_contextvars, ExtraAdder()]])
def test_events_and_plain_records_show_one_id_through_its_formatter(formatter: Any, chain: Any) -> None:
    lines = formatter(foreign_pre_chain=chain)
    stdlib(merge_contextvars).info("event")
    logging.getLogger("tree.plain").info("event")
    assert lines() == [{"event": "event", **IDS}] * 2


def test_a_bound_id_is_the_only_one_of_its_line(formatter: Any) -> None:
    # ExtraAdder after the fact copies the fields of the record over those of the event.
    lines = formatter(foreign_pre_chain=[merge_contextvars])
    with bound_contextvars(request_id="bound"):
        stdlib(merge_contextvars, ExtraAdder()).info("event")
        logging.getLogger("tree.plain").info("event")
    assert lines() == [{"event": "event", **IDS, "request_id": "bound"}] * 2


def test_the_record_of_an_event_has_the_ids_of_the_event() -> None:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("tree")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    stdlib().bind(request_id="bound").info("event")
    stdlib(last=structlog.stdlib.render_to_log_kwargs).bind(request_id="bound").info("event")
    logger.removeHandler(handler)
    assert [record.request_id for record in seen] == ["bound"] * 2  # type: ignore[attr-defined]


def test_another_version_of_structlog_is_left_alone_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_instrumented", {})
    monkeypatch.setattr(report, "_skipped", {})
    logs.uninstall()
    monkeypatch.setattr(structlog_fields, "_installed", [logs.fields])
    structlog_fields._hook(SimpleNamespace(BoundLoggerBase=type("BoundLoggerBase", (), {})))
    (why,) = report._skipped.values()
    assert why.startswith("this version is not known")


def test_structlog_is_not_imported_by_us_and_as_it_was_after_uninstalling() -> None:
    logs.uninstall()
    assert structlog.BoundLoggerBase._process_event.__module__ == "structlog._base"
    assert ProcessorFormatter.__init__.__module__ == "structlog.stdlib"
    code = "import sys; from otel_cc import logs; logs.install(); sys.exit('structlog' in sys.modules)"
    assert __import__("subprocess").run([sys.executable, "-c", code], check=False).returncode == 0
