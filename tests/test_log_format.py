"""The two formats: every record becomes a line, whatever was logged."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.log_format import JsonFormatter, TextFormatter

cycle: list[Any] = []
cycle.append(cycle)
HOSTILE = {
    "cyclic": cycle,
    "not a number": float("nan"),
    "keys": {("a", 1): 2},
    "surrogate": "\ud800",
    "object": type("Bad", (), {"__str__": lambda self: 1 / 0})(),
    "nul": "\0\r\n",
    "bytes": b"\xff",
}


def record(**values: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "m", "created": 0.0, **values})


def as_json(**values: object) -> dict[str, Any]:
    line = JsonFormatter().format(record(**values))
    assert "\n" not in line
    assert line.isascii()
    found: dict[str, Any] = json.loads(line)
    return found


PLAIN = {
    "timestamp": "1970-01-01T00:00:00.000Z", "level": "INFO", "logger": "n", "message": "m",
    "request_id": "", "trace_id": "", "span_id": "",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_json_never_fails_on_what_is_logged(name: str) -> None:
    value = HOSTILE[name]
    assert as_json(**{name: value})["message"] == "m"
    assert as_json(**{name: {"nested": [value]}})["message"] == "m"
    assert as_json(**{"also": 1, name: value})["also"] == 1


anything = st.recursive(
    st.one_of(
        st.text(),
        st.floats(),
        st.integers(),
        st.none(),
        st.binary(),
        st.booleans(),
        st.sampled_from([*HOSTILE.values()]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(), st.integers(), st.none()), inner, max_size=3)
    ),
    max_leaves=5,
)
surrogates = st.text(st.characters(categories=["Cs", "L", "So", "P"]), max_size=20)


@given(surrogates, st.dictionaries(surrogates, anything, max_size=4))
def test_any_record_is_one_json_object_that_strict_parsers_read(message: str, extra: dict[str, Any]) -> None:
    made = record(msg=message)
    # Names with our prefix are ours: what a queue's handler keeps apart is under them.
    taken = {*made.__dict__, *(name for name in extra if name.startswith("_otel_cc"))}
    made.__dict__.update({name: value for name, value in extra.items() if name not in taken})
    line = JsonFormatter().format(made)
    found = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    # No half of a pair of surrogates is left, and pairs became characters.
    line.encode()
    json.dumps(found, ensure_ascii=False).encode()
    assert found["message"] == message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert not re.search("[\r\n]", line)


def test_json_has_the_fields_extras_and_exception() -> None:
    try:
        raise KeyError("k")
    except KeyError:
        info = sys.exc_info()
    line = as_json(exc_info=info, order=7, request_id="r", stack_info="Stack (most recent call last):")
    stacktrace = line["exception"].pop("stacktrace")
    assert stacktrace.startswith("Traceback")
    assert stacktrace.endswith("KeyError: 'k'\n")
    exception = {"type": "KeyError", "message": "'k'"}
    stack = "Stack (most recent call last):"
    assert line == {**PLAIN, "request_id": "r", "order": 7, "exception": exception, "stack": stack}


def test_an_exception_of_a_package_is_named_with_it() -> None:
    error = json.JSONDecodeError("bad", "x", 0)
    exception = as_json(exc_info=(type(error), error, None))["exception"]
    assert exception == {
        "type": "json.decoder.JSONDecodeError",
        "message": "bad: line 1 column 1 (char 0)",
        "stacktrace": "json.decoder.JSONDecodeError: bad: line 1 column 1 (char 0)\n",
    }


def test_an_exception_that_arrives_as_text_is_still_one() -> None:
    text = "Traceback (most recent call last):\n  ...\nValueError: no: such"
    exception = as_json(exc_text=text)["exception"]
    assert exception == {"type": "ValueError", "message": "no: such", "stacktrace": text}


def test_the_applications_own_fields_stand_beside_ours() -> None:
    line = as_json(level="gold", timestamp=5, logger="theirs", exception="none", _private=1, color_message="\x1b[1m")
    assert line == {
        **PLAIN, "extra.level": "gold", "extra.timestamp": 5, "extra.logger": "theirs", "extra.exception": "none",
    }  # fmt: skip


def test_ids_that_are_not_text_are_written_as_text() -> None:
    line = as_json(request_id=42, trace_id=None)
    assert (line["request_id"], line["trace_id"]) == ("42", "None")


def test_a_record_of_celery_names_its_task_but_not_its_arguments() -> None:
    data = {"id": "1-2", "name": "tasks.pay", "args": "('secret',)", "return_value": "secret"}
    line = as_json(name="celery.app.trace", data=data)
    assert line == {**PLAIN, "logger": "celery.app.trace", "task_name": "tasks.pay", "task_id": "1-2"}
    assert as_json(data=data)["data"] == data


def test_an_event_of_structlog_that_missed_its_formatter_is_written_as_one() -> None:
    event = {"event": "paid", "amount": 3, "level": "info", "request_id": "r"}
    assert as_json(msg=event, _logger=None, _name="info") == {**PLAIN, "message": "paid", "amount": 3}
    assert TextFormatter().format(record(msg=event, _logger=None)).endswith("[-] paid amount=3")


def test_a_time_that_is_none_is_replaced() -> None:
    found = datetime.fromisoformat(as_json(created=None)["timestamp"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - found).total_seconds()) < 60


def test_text_is_one_readable_line() -> None:
    line = TextFormatter().format(record(request_id="r"))
    assert line == "1970-01-01T00:00:00.000Z INFO n [r] m"


def test_no_message_begins_a_second_line_of_text() -> None:
    line = TextFormatter().format(record(msg="Exception in ASGI application\n"))
    assert line == "1970-01-01T00:00:00.000Z INFO n [-] Exception in ASGI application"
    line = TextFormatter().format(record(msg="a\r\n1970-01-01T00:00:00.000Z INFO n [forged] b"))
    assert line == r"1970-01-01T00:00:00.000Z INFO n [-] a\r\n1970-01-01T00:00:00.000Z INFO n [forged] b"


def test_a_traceback_follows_the_line_of_text() -> None:
    error = ValueError("x")
    line = TextFormatter().format(record(exc_info=(ValueError, error, None)))
    assert line == "1970-01-01T00:00:00.000Z INFO n [-] m\nValueError: x"


def test_arguments_that_do_not_fit_are_shown_not_lost() -> None:
    assert as_json(msg="%d", args=("x",))["message"] == "%d ('x',)"
    assert as_json(msg="%d", args=HOSTILE["object"])["message"].startswith("%d <Bad")
