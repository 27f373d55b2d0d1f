"""Values beyond the bound of their label are one value, and are counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_cc.metrics import bounds
from otel_cc.metrics.catalogue import BOUNDS, OTHER


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    bounds._seen.clear()
    yield
    bounds._seen.clear()


@pytest.mark.parametrize("attribute", BOUNDS)
def test_ten_thousand_values_stay_within_the_bound(attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(bounds, "_overflown", [told.append])
    labels = [bounds.bounded(attribute, f"value {number}") for number in range(10_000)]
    assert len(set(labels)) == BOUNDS[attribute]
    assert labels.count(OTHER) == len(told) == 10_000 - (BOUNDS[attribute] - 1)
    assert set(told) == {attribute}


def test_the_first_values_keep_their_name() -> None:
    first = bounds.bounded("error.type", "ValueError")
    for number in range(1000):
        bounds.bounded("error.type", f"Error{number}")
    assert bounds.bounded("error.type", "ValueError") == first == "ValueError"


def test_an_attribute_without_a_bound_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        bounds.bounded("user.id", "7")
