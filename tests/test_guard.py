"""Telemetry never breaks the application: failures are logged once, and raised only in strict tests."""

from __future__ import annotations

import logging

import pytest

from otel_cc import guard


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing has failed yet."""
    monkeypatch.setattr(guard, "_seen", set())
    monkeypatch.delenv("OTEL_CC_STRICT", raising=False)


def fail(place: str) -> None:
    try:
        raise ValueError("broken")
    except Exception:
        guard.failed(place)


def test_a_failure_is_logged_with_its_place_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    fail("the response header")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("otel_cc", logging.WARNING)
    assert record.getMessage() == (
        "otel-cc failed in the response header; the application goes on without it there (logged once)."
    )
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


def test_a_place_that_fails_on_every_request_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        fail("the response header")
    fail("the SQL comment")
    assert [record.args for record in caplog.records] == [("the response header",), ("the SQL comment",)]


@pytest.mark.parametrize("value", ["true", "True", "TRUE"])
def test_in_strict_mode_the_failure_is_raised(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_CC_STRICT", value)
    with pytest.raises(ValueError, match="broken"):
        fail("the response header")


@pytest.mark.parametrize("value", ["", "false", "1", "maybe"])
def test_anything_else_is_not_strict(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_CC_STRICT", value)
    assert not guard.strict()
    fail("the response header")


def test_a_guarded_block_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    with guard.guarded("the log fields"):
        raise KeyError("request_id")
    assert [record.args for record in caplog.records] == [("the log fields",)]


def test_a_guarded_block_lets_the_end_of_the_process_pass() -> None:
    with pytest.raises(KeyboardInterrupt), guard.guarded("the log fields"):
        raise KeyboardInterrupt
    with pytest.raises(SystemExit), guard.guarded("the log fields"):
        raise SystemExit(3)


def test_a_guarded_block_raises_in_strict_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_CC_STRICT", "true")
    with pytest.raises(KeyError), guard.guarded("the log fields"):
        raise KeyError("request_id")


def test_a_warning_is_given_once_per_key(caplog: pytest.LogCaptureFixture) -> None:
    guard.warn_once("budget", "the budget is %d", 1)
    guard.warn_once("budget", "the budget is %d", 2)
    guard.warn_once("other", "another")
    assert [record.getMessage() for record in caplog.records] == ["the budget is 1", "another"]
    assert not any(record.exc_info for record in caplog.records)
