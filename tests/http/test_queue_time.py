"""The header of a proxy, in every unit, is read as seconds, and nonsense is nothing."""

from __future__ import annotations

import pytest

from otel_cc.http.queue_time import from_proxy, waited

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
    b"t=1699999951": 59.5,
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
    # Longer ago than a minute, or further ahead than one.
    b"t=1699999950",
    b"t=1700000071",
    b"100",
    b"9999999999999999999",
)


@pytest.mark.parametrize("value", READ)
def test_a_time_is_read_in_its_unit(value: bytes) -> None:
    assert waited(value, NOW) == pytest.approx(READ[value], abs=1e-6)


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_is_ignored(value: bytes) -> None:
    assert waited(value, NOW) is None


TCP = ("10.0.0.1", 8000)
PEERS = {
    "this machine": (("127.0.0.1", 50000), TCP, True),
    "this machine, IPv6": (("::1", 50000), TCP, True),
    "a private network": (("10.1.2.3", 50000), TCP, True),
    "a private network of a provider": (("100.64.0.7", 50000), TCP, True),
    "a private network, IPv6": (("fd00::7", 50000), TCP, True),
    "a private network, mapped": (("::ffff:10.1.2.3", 50000), TCP, True),
    "a public address": (("8.8.8.8", 50000), TCP, False),
    "a public address, mapped": (("::ffff:8.8.8.8", 50000), TCP, False),
    "a public address, IPv6": (("2600::1", 50000), TCP, False),
    "behind a proxy that the server trusts": (("8.8.8.8", 0), TCP, True),
    "a Unix socket": (None, ("/run/app.sock", None), True),
    "a server that does not tell": (None, TCP, False),
    "a server that tells nothing": (None, None, False),
    "no address": (("testclient", 50000), TCP, False),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_proxy_is_where_no_public_client_can_be(name: str) -> None:
    client, server, found = PEERS[name]
    assert from_proxy({"client": client, "server": server}) is found
