"""The settings table: what each variable accepts, and that no value of one can stop the application."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc import settings
from otel_cc.settings import SETTINGS, Settings, load

VARIABLES = [setting.variable for setting in SETTINGS]

# What the operating system lets into an environment: no NUL, but lone surrogates (bytes that are no UTF-8).
hostile = st.text(st.characters(exclude_categories=(), exclude_characters="\0"), max_size=200)


def test_without_any_variable_the_defaults_hold() -> None:
    assert load({})._asdict() == {
        "enabled": True,
        "instrumentation": "own",
        "request_id_header": "X-Request-ID",
        "trust_inbound": True,
        "response_header": True,
        "error_body": True,
        "log_fields": True,
        "log_format": "keep",
        "sql_comment": "auto",
        "sql_comment_budget": 0.03,
        "celery_headers": True,
        "celery_monitor": True,
        "outgoing": True,
        "flush_timeout": 3.0,
        "shutdown_timeout": 5.0,
        "status_dir": "",
        "problems": (),
    }


def test_each_setting_has_one_variable_and_one_field() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)
    assert [setting.field for setting in SETTINGS] == [field for field in Settings._fields if field != "problems"]


@pytest.mark.parametrize("setting", SETTINGS, ids=VARIABLES)
def test_a_setting_follows_the_naming_rules(setting: settings.Setting) -> None:
    assert setting.variable.startswith("OTEL_CC_")
    if isinstance(setting.parse(setting.default), bool) and setting.accepts == "true or false":
        assert setting.variable.endswith("_ENABLED"), "a switch ends in _ENABLED"
    assert setting.text.endswith("."), "one sentence"
    assert "\n" not in setting.text + setting.accepts


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("OTEL_CC_ENABLED", "FALSE", "enabled", False),
        ("OTEL_CC_ENABLED", "0", "enabled", False),
        ("OTEL_CC_ENABLED", " off ", "enabled", False),
        ("OTEL_CC_ENABLED", "Yes", "enabled", True),
        ("OTEL_CC_INSTRUMENTATION", "Contrib", "instrumentation", "contrib"),
        ("OTEL_CC_REQUEST_ID_HEADER", "x-correlation-id", "request_id_header", "x-correlation-id"),
        ("OTEL_CC_TRUST_INBOUND", "never", "trust_inbound", False),
        (
            "OTEL_CC_TRUST_INBOUND",
            "10.1.2.3/8, ::1",
            "trust_inbound",
            (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")),
        ),
        ("OTEL_CC_LOG_FORMAT", "JSON", "log_format", "json"),
        ("OTEL_CC_SQL_COMMENT", "off", "sql_comment", "off"),
        ("OTEL_CC_SQL_COMMENT_BUDGET", "1", "sql_comment_budget", 1.0),
        ("OTEL_CC_FLUSH_TIMEOUT", "0", "flush_timeout", 0.0),
        ("OTEL_CC_SHUTDOWN_TIMEOUT", "3600", "shutdown_timeout", 3600.0),
        ("OTEL_CC_STATUS_DIR", "off", "status_dir", "off"),
    ],
)
def test_a_value_is_understood(variable: str, text: str, field: str, value: object) -> None:
    assert load({variable: text}) == load({})._replace(**{field: value})
    assert load({variable: text}).problems == ()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_CC_ENABLED", "maybe"),
        ("OTEL_CC_INSTRUMENTATION", "theirs"),
        ("OTEL_CC_REQUEST_ID_HEADER", "X Request ID"),
        ("OTEL_CC_REQUEST_ID_HEADER", "X-Request-ID\r\nSet-Cookie"),
        ("OTEL_CC_REQUEST_ID_HEADER", "X" * 65),
        ("OTEL_CC_REQUEST_ID_HEADER", "X-Request-ÍD"),
        ("OTEL_CC_TRUST_INBOUND", "10.0.0.0/33"),
        ("OTEL_CC_TRUST_INBOUND", "10.0.0.0/8,"),
        ("OTEL_CC_SQL_COMMENT_BUDGET", "0"),
        ("OTEL_CC_SQL_COMMENT_BUDGET", "1.01"),
        ("OTEL_CC_SQL_COMMENT_BUDGET", "nan"),
        ("OTEL_CC_FLUSH_TIMEOUT", "-1"),
        ("OTEL_CC_FLUSH_TIMEOUT", "5s"),
        ("OTEL_CC_SHUTDOWN_TIMEOUT", "3601"),
        ("OTEL_CC_SHUTDOWN_TIMEOUT", "inf"),
    ],
)
def test_a_value_that_is_not_understood_is_named_and_replaced(variable: str, text: str) -> None:
    (setting,) = (setting for setting in SETTINGS if setting.variable == variable)
    # Somebody who names networks does not want to trust everybody.
    instead = "never" if variable == "OTEL_CC_TRUST_INBOUND" else setting.default
    loaded = load({variable: text})
    assert loaded._replace(problems=()) == load({variable: instead})
    assert loaded.problems == (
        f"{variable}={text!r} is not understood, {instead!r} is used instead: write {setting.accepts}.",
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_counts_as_unset(variable: str) -> None:
    assert load({variable: " "}) == load({})
    assert load({variable: ""}).problems == ()


def test_a_misspelt_name_is_named() -> None:
    assert load({"OTEL_CC_SQL_COMMENTS": "off", "OTEL_CC_STRICT": "true", "OTEL_SERVICE_NAME": "shop"}).problems == (
        "OTEL_CC_SQL_COMMENTS is not a setting of otel-cc and is ignored: see docs/settings.md for the names.",
    )


def test_the_variables_of_the_collector_and_of_jaeger_are_not_called_misspelt() -> None:
    files = (Path(__file__).parent.parent / "collector").rglob("*.yaml")
    read = {name for file in files for name in re.findall(r"\$\{env:(OTEL_CC_\w+)", file.read_text())}
    assert read | {"OTEL_CC_PROGRAMS", "OTEL_CC_JAEGER_URL"} == settings.ELSEWHERE
    assert load(dict.fromkeys(read, "x")).problems == ()


@given(st.dictionaries(st.sampled_from(VARIABLES), hostile))
def test_no_environment_stops_the_application(environ: dict[str, str]) -> None:
    loaded = load(environ)
    default = load({})
    for setting in SETTINGS:
        value = getattr(loaded, setting.field)
        assert isinstance(value, (type(getattr(default, setting.field)), tuple))
    assert len(loaded.problems) <= len(environ)
    assert all(problem.endswith(".") and problem.isprintable() for problem in loaded.problems)


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.get.cache_clear()
    try:
        monkeypatch.setenv("OTEL_CC_SQL_COMMENT", "off")
        assert settings.get().sql_comment == "off"
        monkeypatch.setenv("OTEL_CC_SQL_COMMENT", "always")
        assert settings.get().sql_comment == "off"
    finally:
        settings.get.cache_clear()
