"""What may become an attribute."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.celery.values import destination_of, text


@pytest.mark.parametrize("value", [None, "", 7, b"x", ["x"], {"x": "x"}])
def test_only_text_becomes_an_attribute(value: Any) -> None:
    assert text(value) is None


@given(st.text(st.characters(), min_size=1, max_size=400))
def test_a_text_is_short_and_can_be_sent(value: str) -> None:
    short = text(value)
    assert short is not None
    assert len(short) == min(len(value), 255)
    short.encode()


@pytest.mark.parametrize(
    ("routing_key", "destination"),
    [
        ("shop", "shop"),
        ("0." * 27 + "1.shop", "shop"),
        ("0." * 27 + "1." + "0." * 26 + "1.0.shop.mail", "shop.mail"),
        ("0.1.shop", "0.1.shop"),
        ("", None),
        (7, None),
    ],
)
def test_the_delay_of_a_message_is_no_part_of_its_destination(routing_key: Any, destination: str | None) -> None:
    assert destination_of(routing_key) == destination
