"""Spans as a tree in a terminal: who called whom, how long it took, what failed. Whatever the spans hold, it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from otel_cc.local.signals import Span

# A name is cut after so many characters.
_LENGTH = 160


@dataclass(frozen=True)
class Node:
    """A span at its place.

    :param depth: 0 for a root
    :param lost: whether it names a parent that is not among the spans
    """

    span: Span
    depth: int
    lost: bool


def printable(value: object, limit: int = _LENGTH) -> str:
    """A text of unknown origin as it may go to a terminal: no escape sequence, no line break, no change of direction.

    :param limit: characters; the rest becomes "..."
    """
    # A word at most as long as what is shown is looked at: the value may have megabytes.
    text = " ".join(str(value)[: 4 * limit].split())
    if len(text) > limit:
        text = f"{text[: limit - 3]}..."
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def order(spans: Sequence[Span]) -> list[Node]:
    """The spans in the order of a tree, children in the order given. Each is there once, also when parents form a circle."""
    known = {span.span_id for span in spans}
    children: dict[str, list[int]] = {}
    roots = []
    for number, span in enumerate(spans):
        if span.parent_id in known and span.parent_id is not None:
            children.setdefault(span.parent_id, []).append(number)
        else:
            roots.append(number)
    placed: list[Node] = []
    seen: set[int] = set()
    # After the roots everything else once more: what is left then hangs in a circle.
    for root in (*roots, *range(len(spans))):
        stack = [(root, 0)]
        while stack:
            number, depth = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            span = spans[number]
            placed.append(Node(span, depth, depth == 0 and span.parent_id is not None))
            stack.extend((child, depth + 1) for child in reversed(children.get(span.span_id, ())))
    return placed


def trees(
    nodes: Sequence[Node],
    styles: Mapping[str, str],
    *,
    depth: int = 0,
    details: Callable[[Node], list[Text]] | None = None,
) -> Iterator[Tree]:
    """One tree for each root.

    :param styles: of the services
    :param depth: how deep to indent; deeper spans stand at that depth and say theirs. 0: as deep as they are
    :param details: lines below the label of a span
    """
    path: list[Tree] = []
    for node in nodes:
        text = label(node.span, styles)
        place = node.depth
        if depth and place > depth:
            text = Text.assemble((f"({place} deep) ", "dim"), text)
            place = depth
        if details is not None:
            text = Text("\n").join([text, *details(node)])
        if place == 0:
            if path:
                yield path[0]
            path = [Tree(text, guide_style="dim")]
        else:
            # A shortened list of spans never lacks the parent of one that is in it.
            del path[place:]
            path.append(path[-1].add(text))
    if path:
        yield path[0]


def label(span: Span, styles: Mapping[str, str]) -> Text:
    """Service, name, duration and outcome of a span."""
    text = Text.assemble(
        (printable(span.service, 60), styles.get(span.service, "")),
        "  ",
        printable(span.name),
        (f"  {duration(span.duration)}", "dim"),
    )
    attributes = span.attributes
    if span.status == "ERROR":
        text.append(f"  {printable(attributes.get('error.type') or span.status_message or 'error')}", style="red")
    elif attributes.get("error.type"):
        # A 404 is an error for the caller, not for the server: its span has the type and no error status.
        text.append(f"  {printable(attributes['error.type'])}", style="yellow")
    elif attributes.get("http.response.status_code"):
        text.append(f"  {printable(attributes['http.response.status_code'], 10)}", style="dim")
    return text


def duration(seconds: float) -> str:
    """A length of time as a person reads it."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
