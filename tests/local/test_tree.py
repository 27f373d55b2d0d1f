"""The tree of spans has each span once and ends, and nothing in a span reaches the terminal as more than text."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from otel_cc.local.signals import Span
from otel_cc.local.tree import duration, order, printable, trees
from tests.local.order import span


def one(number: int, parent: int | None, **changes: object) -> Span:
    return replace(span(f"s{number}", "INTERNAL", "shop", number, parent), **changes)  # type: ignore[arg-type]


def drawn(spans: list[Span], *, depth: int = 0, width: int = 100) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    for tree in trees(order(spans), {"shop": "cyan"}, depth=depth):
        console.print(tree)
    return file.getvalue().splitlines()


def test_children_stand_below_their_parent_in_the_order_given() -> None:
    assert drawn([one(1, None), one(2, 1), one(3, 2), one(4, 1)]) == [
        "shop  s1  2.0 ms",
        "├── shop  s2  2.0 ms",
        "│   └── shop  s3  2.0 ms",
        "└── shop  s4  2.0 ms",
    ]


def test_a_span_whose_parent_is_missing_is_a_root_that_says_so() -> None:
    nodes = order([one(1, None), one(5, 4), one(6, 5)])
    assert [(node.span.name, node.depth, node.lost) for node in nodes] == [
        ("s1", 0, False),
        ("s5", 0, True),
        ("s6", 1, False),
    ]


def test_a_span_that_is_its_own_ancestor_is_shown_once() -> None:
    assert [(n.span.name, n.depth) for n in order([one(1, 1)])] == [("s1", 0)]
    assert [(n.span.name, n.depth) for n in order([one(1, 3), one(2, 1), one(3, 2)])] == [
        ("s1", 0),
        ("s2", 1),
        ("s3", 2),
    ]


def test_two_spans_with_one_id_are_both_shown() -> None:
    assert sorted(node.span.name for node in order([one(1, None), one(1, None, name="twin"), one(2, 1)])) == [
        "s1",
        "s2",
        "twin",
    ]


@given(st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(1, 12)), max_size=30))
def test_every_span_is_placed_exactly_once_below_a_shown_parent(pairs: list[tuple[int, int | None]]) -> None:
    spans = [one(number, parent) for number, parent in pairs]
    nodes = order(spans)
    assert sorted(map(id, spans)) == sorted(id(node.span) for node in nodes)
    for before, node in pairwise(nodes):
        assert node.depth <= before.depth + 1
    assert len(drawn(spans)) == len(spans)


def test_ten_thousand_spans_in_one_chain_are_drawn_in_seconds() -> None:
    spans = [one(number, number - 1 or None) for number in range(1, 10_001)]
    start = time.thread_time()
    lines = drawn(spans, depth=10)
    assert time.thread_time() - start < 30
    assert len(lines) == 10_000
    assert max(map(len, lines)) <= 100
    assert lines[-1].endswith("(9999 deep) shop  s10000  2.0 ms")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /", "GET /"),
        ("a\r\n\tb", "a b"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("größer ✓", "größer ✓"),
        ("[red]x[/red]", "[red]x[/red]"),
        (None, "None"),
    ],
)
def test_a_hostile_text_is_only_text(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut() -> None:
    assert printable("x" * 10_000_000, 10) == "xxxxxxx..."


def test_nothing_in_a_label_reaches_the_terminal_raw() -> None:
    evil = "\x1b[31m[red]\x07\u202e\x9b"
    failed = one(1, None, name=evil, status="ERROR", status_message=evil, resource={"service.name": evil})
    other = one(2, None, name=evil, attributes={"error.type": evil}, resource={"service.name": evil})
    text = "\n".join(drawn([failed, other], width=300))
    assert "\\x1b[31m[red]\\x07\\u202e\\x9b" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_duration_has_a_unit_that_fits() -> None:
    assert (duration(0.0123), duration(2), duration(-1)) == ("12.3 ms", "2.00 s", "-1000.0 ms")
