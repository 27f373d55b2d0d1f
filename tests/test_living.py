"""What is known without being kept can be read at any time, and is gone when nobody else keeps it."""

from __future__ import annotations

from otel_cc.living import Living


class Thing:
    pass


def test_what_nobody_keeps_is_gone() -> None:
    living: Living[Thing] = Living()
    kept, dropped = Thing(), Thing()
    living.add(kept)
    living.add(kept)
    living.add(dropped)
    assert set(living) == {kept, dropped}
    del dropped
    assert list(living) == [kept]
    living.forget()
    assert list(living) == []


def test_one_may_be_added_or_dropped_while_they_are_read() -> None:
    living: Living[Thing] = Living()
    things = [Thing() for _ in range(3)]
    for thing in things:
        living.add(thing)
    seen = 0
    for _ in living:
        seen += 1
        things.append(Thing())
        living.add(things[-1])
        del things[:2]
    assert 1 <= seen <= 3
