"""A snapshot survives its way through JSON, and what is no snapshot never gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.metrics.pull import page
from otel_cc.metrics.pull.snapshot import Distribution, Exemplar, Family, Number, Snapshot, decode, encode

WHOLE = Snapshot(
    "run",
    {"service_name": "shop"},
    {
        ("requests", "counter"): Family(
            "requests", "counter", "Requests.", "", "sum", {(("a", 'ä\n"'),): Number(3, True), (): Number(2.5)}
        ),
        ("level", "gauge"): Family("level", "gauge", "", "", "max", {(): Number(-1)}),
        ("wait_seconds", "histogram"): Family(
            "wait_seconds",
            "histogram",
            "Wait.",
            "seconds",
            "sum",
            {(): Distribution((0.1, 1.0), (1, 0, 2), 7.5, (Exemplar(0.05, 1.5, "ab" * 16, "cd" * 8),))},
        ),
    },
    ("1-00000000",),
)


def test_nothing_is_lost_on_the_way() -> None:
    assert decode(encode(WHOLE)) == WHOLE


def changed(change: Callable[[Any], Any]) -> bytes:
    document = json.loads(encode(WHOLE))
    change(document)
    return json.dumps(document).encode()


def point(document: Any, family: int = 0) -> Any:
    return document["families"][family]["series"][0]


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x80\x04\x95",
    "no UTF-8": b'{"version": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "half of it": encode(WHOLE)[:-20],
    "too deep": b"[" * 200_000,
    "a number without end": b'{"version": ' + b"9" * 5000 + b"}",
    "another version": changed(lambda d: d.update(version=2)),
    "no families": changed(lambda d: d.pop("families")),
    "families that are none": changed(lambda d: d.update(families=[1])),
    "a name with a line break": changed(lambda d: d["families"][0].update(name="a\nb 1")),
    "an empty name": changed(lambda d: d["families"][0].update(name="")),
    "a very long name": changed(lambda d: d["families"][0].update(name="a" * 1000)),
    "an unknown kind": changed(lambda d: d["families"][0].update(kind="info")),
    "a unit that is not in the name": changed(lambda d: d["families"][0].update(unit="seconds")),
    "an unknown way to merge": changed(lambda d: d["families"][0].update(merged="eval")),
    "a label with a quote": changed(lambda d: point(d).__setitem__(0, {'a"': "x"})),
    "a label value that is a number": changed(lambda d: point(d).__setitem__(0, {"a": 1})),
    "a value that is a text": changed(lambda d: point(d).__setitem__(1, ["1", False])),
    "a value that is true": changed(lambda d: point(d).__setitem__(1, [True, False])),
    "a value beyond all floats": changed(lambda d: point(d).__setitem__(1, [10**400, False])),
    "a counter below zero": changed(lambda d: point(d).__setitem__(1, [-1, False])),
    "a counter that is no number": changed(lambda d: point(d).__setitem__(1, [float("nan"), False])),
    "a counter without end": changed(lambda d: point(d).__setitem__(1, [float("inf"), False])),
    "a bucket too few": changed(lambda d: point(d, 2)[1].__setitem__(1, [1, 2])),
    "a bucket below zero": changed(lambda d: point(d, 2)[1].__setitem__(1, [1, -2, 3])),
    "a bucket with a part of a measurement": changed(lambda d: point(d, 2)[1].__setitem__(1, [1, 0.5, 3])),
    "bounds that fall": changed(lambda d: point(d, 2)[1].__setitem__(0, [1, 0.1])),
    "a bound that is no number": changed(lambda d: point(d, 2)[1].__setitem__(0, [0.1, float("nan")])),
    "a bound without end": changed(lambda d: point(d, 2)[1].__setitem__(0, [0.1, float("inf")])),
    "an exemplar with a long ID": changed(lambda d: point(d, 2)[1].__setitem__(3, [[0.1, 1, "a" * 200, "b"]])),
    "an exemplar with three parts": changed(lambda d: point(d, 2)[1].__setitem__(3, [[0.1, 1, "a"]])),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["counter", "a_total", "sum"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
PLACES = st.sampled_from(
    [
        lambda d, v: d.update(families=v),
        lambda d, v: d.update(target=v),
        lambda d, v: d.update(folded=v),
        lambda d, v: d["families"][0].update(name=v),
        lambda d, v: d["families"][0].update(series=v),
        lambda d, v: d["families"][2].update(series=v),
        lambda d, v: point(d).__setitem__(0, v),
        lambda d, v: point(d).__setitem__(1, v),
        lambda d, v: point(d, 2).__setitem__(1, v),
        lambda d, v: point(d, 2)[1].__setitem__(0, v),
        lambda d, v: point(d, 2)[1].__setitem__(3, v),
    ]
)


@given(PLACES, JSON)
def test_whatever_stands_in_it_is_refused_or_can_be_shown(place: Callable[[Any, Any], None], value: Any) -> None:
    data = changed(lambda document: place(document, value))
    try:
        found = decode(data)
    except ValueError:
        return
    for family in page.families(found):
        for sample in family.samples:
            repr(sample).encode()


def test_a_label_that_utf_8_cannot_say_does_not_cost_the_page() -> None:
    data = changed(lambda d: point(d).__setitem__(0, {"a": "\ud800x"}))
    assert next(iter(decode(data).families["requests", "counter"].series)) == (("a", "?x"),)
