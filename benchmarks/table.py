"""Plain text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.summary import Summary


def render(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is aligned left and the others right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    return "\n".join([title, line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def number(summary: Summary | None, digits: int = 0) -> str:
    """A median alone."""
    return "-" if summary is None else f"{summary.median:.{digits}f}"


def spread(summary: Summary | None, digits: int = 0) -> str:
    """A median with its quartiles: ``55 [52-61]``."""
    if summary is None:
        return "-"
    return f"{summary.median:.{digits}f} [{summary.low:.{digits}f}-{summary.high:.{digits}f}]"
