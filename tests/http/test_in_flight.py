"""What is open is counted by labels, back to zero, and not in a forked child."""

from __future__ import annotations

import os

from otel_cc.http.in_flight import InFlight

GET, POST = {"method": "GET"}, {"method": "POST"}


def read(found: InFlight) -> list[tuple[str, float]]:
    return sorted((labels["method"], value) for value, labels in found.read())


def test_what_is_open_is_counted_and_a_label_that_was_there_stays_as_zero() -> None:
    found = InFlight()
    assert read(found) == []
    found.enter("a", GET)
    found.enter("b", GET)
    found.enter("c", POST)
    assert read(found) == [("GET", 2), ("POST", 1)]
    for name in ("a", "b", "b", "c", "never there"):
        found.leave(name)
    assert read(found) == [("GET", 0), ("POST", 0)]


def test_a_forked_child_has_nothing_open() -> None:
    found = InFlight()
    found.enter("a", GET)
    child = os.fork()
    if child == 0:
        os._exit(len(found))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(found) == 1
