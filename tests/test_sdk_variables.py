"""A wrong value of one of OpenTelemetry's own variables costs that variable only."""

from __future__ import annotations

import pytest

from otel_cc import sdk_variables

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
COUNT = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
LENGTH = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {INTERVAL: "15000", COUNT: "0", LENGTH: " 7 "},
        {INTERVAL: "0.5"},
        {INTERVAL: "", COUNT: ""},
        {"OTEL_SOMETHING_COUNT_LIMIT": "-1"},
    ],
    ids=str,
)
def test_what_is_right_stays_as_it_is(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    before = environ.copy()
    sdk_variables.correct(environ)
    assert environ == before
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((INTERVAL, value) for value in ("0", "-5", "15s", "nan", "inf", "1e300")),
        *((COUNT, value) for value in ("-1", "1.5", "many", "\N{SNOWMAN}")),
        (LENGTH, "-1"),
    ],
)
def test_what_is_wrong_is_named_once_and_taken_out(name: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    environ = {name: value, "HOME": "-1"}
    for _ in range(2):
        sdk_variables.correct(environ)
    assert environ == {"HOME": "-1"}
    (record,) = caplog.records
    assert f"{name}={value!r} is not a " in record.getMessage()
