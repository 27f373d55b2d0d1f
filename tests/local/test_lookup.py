"""Whatever a person copies is understood: a request ID, a UUID, a trace ID, a traceparent, the value in a SQL comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc import request_id
from otel_cc.local import lookup

UUID = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"
HEX = UUID.replace("-", "")


@pytest.mark.parametrize(
    ("text", "trace_id", "found"),
    [
        (UUID, HEX, UUID),
        (UUID.upper(), HEX, UUID.upper()),
        (HEX, HEX, HEX),
        (HEX.upper(), HEX, HEX.upper()),
        (f"00-{HEX}-00f067aa0ba902b7-01", HEX, None),
        (f"00-{HEX.upper()}-00F067AA0BA902B7-03", HEX, None),
        (f"cc-{HEX}-00f067aa0ba902b7-01-what-comes-later", HEX, None),
        ("order-42", None, "order-42"),
        ("  'order-42'\n", None, "order-42"),
        # As it stands in a SQL comment.
        ("checkout%2F7", None, "checkout/7"),
        # No UUID that decides the trace ID, but what somebody may have made of a trace ID.
        ("0b6d5c5f-6f6c-1d0e-1c2b-1a7f3e8d9c10", "0b6d5c5f6f6c1d0e1c2b1a7f3e8d9c10", "0b6d5c5f-6f6c-1d0e-1c2b-1a7f3e8d9c10"),
        ("0" * 32, None, "0" * 32),
        ("a" * 128, None, "a" * 128),
    ],
)  # fmt: skip
def test_an_id_is_understood(text: str, trace_id: str | None, found: str | None) -> None:
    parsed = lookup.parse(text)
    assert (parsed.trace_id, parsed.request_id) == (trace_id, found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "a b",
        "ä",
        "\x1b[2J",
        "a" * 129,
        "x\ny",
        "../etc/passwd",
        f"00-{'0' * 32}-00f067aa0ba902b7-01'",
        "%00",
        "'",
    ],
)
def test_what_is_no_id_is_refused_in_one_printable_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is no ID: give a request ID") as refused:
        lookup.parse(text)
    assert str(refused.value).isprintable()


def test_the_refusal_of_a_megabyte_is_short() -> None:
    with pytest.raises(ValueError, match="1,000,000 characters") as refused:
        lookup.parse("x" * 1_000_000)
    assert len(str(refused.value)) < 400


@given(st.text())
def test_any_text_is_an_id_or_is_refused(text: str) -> None:
    try:
        parsed = lookup.parse(text)
    except ValueError:
        return
    assert parsed.request_id is None or request_id.accept(parsed.request_id) == parsed.request_id
    assert parsed.trace_id is None or int(parsed.trace_id, 16) > 0
