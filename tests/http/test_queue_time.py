"""The header of a proxy, in every unit, is read as seconds, and nonsense is nothing."""

from __future__ import annotations

import pytest

from otel_cc.http.queue_time import waited

NOW = 1_700_000_010.5

READ = {
    b"t=1700000000.500": 10.0,
    b"1700000000.5": 10.0,
    b"t=1700000000": 10.5,
    b"1700000000500": 10.0,
    b"t=1700000000500": 10.0,
    b"t=1700000000500000": 10.0,
    b"1700000000500000000": 10.0,
    b" t=1700000010.5 ": 0.0,
    # The proxy's clock is ahead.
    b"t=1700000012.5": 0.0,
    b"t=1699996411": 3599.5,
}

NONSENSE = (
    b"",
    b"t=",
    b"yesterday",
    b"nan",
    b"inf",
    b"t=-1700000000.5",
    b"1.7e9",
    b"0x6553f100",
    b"t=1700000000.5 t=1700000001.5",
    b"1" * 500,
    b"\xff\xfe",
    # Longer ago than an hour, or further ahead than one.
    b"t=1699996410",
    b"t=1700003611",
    b"100",
    b"9999999999999999999",
)


@pytest.mark.parametrize("value", READ)
def test_a_time_is_read_in_its_unit(value: bytes) -> None:
    assert waited(value, NOW) == pytest.approx(READ[value], abs=1e-6)


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_is_ignored(value: bytes) -> None:
    assert waited(value, NOW) is None
