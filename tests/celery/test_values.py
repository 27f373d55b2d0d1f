"""What may become an attribute."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.celery.values import text


@pytest.mark.parametrize("value", [None, "", 7, b"x", ["x"], {"x": "x"}])
def test_only_text_becomes_an_attribute(value: Any) -> None:
    assert text(value) is None


@given(st.text(st.characters(), min_size=1, max_size=400))
def test_a_text_is_short_and_can_be_sent(value: str) -> None:
    short = text(value)
    assert short is not None
    assert len(short) == min(len(value), 255)
    short.encode()
