"""What is shown of a trace: for people (a terminal of any width) and for machines (JSON)."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from itertools import cycle
from typing import Any

from rich.console import Console
from rich.text import Text

from otel_cc.local import sql_comment
from otel_cc.local.signals import Span
from otel_cc.local.traces import Trace
from otel_cc.local.tree import Node, duration, label, order, printable, trees

_PALETTE = ("cyan", "magenta", "blue", "green", "bright_cyan", "bright_magenta")

# The present name of the attribute, and the one before it.
_STATEMENTS = ("db.query.text", "db.statement")

# A statement or an exception is cut after so many characters; JSON has all of it.
_LENGTH = 400

# Failed spans that are shown although the list of spans ended before them.
_FAILED = 20

# So many columns are left for the text of the deepest span.
_ROOM = 64


def show(console: Console, trace: Trace, *, limit: int = 1000) -> None:
    """Print one trace.

    :param limit: of spans; 0 shows all
    """
    console.print(Text.assemble("trace ", (trace.trace_id, "bold")), soft_wrap=True)
    console.print(Text(", ".join(_facts(trace)), style="dim"), soft_wrap=True)
    styles = dict(zip(trace.services, cycle(_PALETTE), strict=False))
    nodes = order(trace.spans)
    shown, rest = (nodes[:limit], nodes[limit:]) if limit else (nodes, [])
    depth = max((console.width - _ROOM) // 4, 4)
    for tree in trees(shown, styles, depth=depth, details=_details):
        console.print(tree)
    if rest:
        failed = [node.span for node in rest if node.span.status == "ERROR"]
        many = f"{len(rest):,} more {_spans(len(rest))} not shown, {len(failed):,} of them failed"
        console.print(Text(f"{many} (--limit 0 shows all of them)", style="yellow"), soft_wrap=True)
        for span in failed[:_FAILED]:
            console.print(Text("  ") + label(span, styles))
    if any(sql and not sql_comment.pairs(sql) for sql in map(statement, trace.spans)):
        console.print()
        console.print(
            Text(
                "A span holds its statement as the application wrote it. The comment that PostgreSQL got, if there was "
                f"one, has traceparent='00-{trace.trace_id}-SPAN-..' in it: look for that in its log.",
                style="dim",
            )
        )


def _facts(trace: Trace) -> Iterator[str]:
    if ids := trace.request_ids:
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        yield f"request ID {', '.join(printable(one, 128) for one in ids[:3])}{more}"
    else:
        yield "no request ID"
    yield _when(trace.start)
    yield f"{len(trace.spans):,} {_spans(len(trace.spans))}"
    yield f"{len(trace.services)} service{'' if len(trace.services) == 1 else 's'}"
    yield duration(trace.duration)
    yield f"{trace.errors or 'no'} error{'' if trace.errors == 1 else 's'}"


def _spans(number: int) -> str:
    return "span" if number == 1 else "spans"


def _when(nanoseconds: int) -> str:
    # Without the range of the operating system's clock functions: a hostile time is only a strange one.
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return f"{nanoseconds} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"


def _details(node: Node) -> list[Text]:
    span = node.span
    lines = []
    if node.lost:
        lines.append(Text(f"its parent {printable(span.parent_id)} is not here", style="dim"))
    if sql := statement(span):
        plain = printable(sql_comment.split(sql)[0], _LENGTH)
        lines.append(Text.assemble((plain, "italic"), (f"  span {span.span_id}", "dim")))
        if comment := sql_comment.pairs(sql):
            pairs = ", ".join(f"{key}={value}" for key, value in comment.items())
            lines.append(Text(f"/* {printable(pairs, _LENGTH)} */", style="dim"))
    for event in span.events:
        if event.name == "exception":
            name, message = (event.attributes.get(f"exception.{part}") for part in ("type", "message"))
            text = ": ".join(str(part) for part in (name, message) if part) or "exception"
            lines.append(Text(printable(text, _LENGTH), style="red"))
    if span.status == "ERROR" and span.status_message and span.attributes.get("error.type") and not span.events:
        lines.append(Text(printable(span.status_message, _LENGTH), style="red"))
    return lines


def statement(span: Span) -> str:
    """The SQL of a span, or ""."""
    return next((text for name in _STATEMENTS if isinstance(text := span.attributes.get(name), str)), "")


def as_json(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """The same for machines, with everything that the spans have; times in nanoseconds since the epoch."""
    return [
        {
            "trace_id": trace.trace_id,
            "request_ids": trace.request_ids,
            "start": trace.start,
            "duration": trace.duration,
            "services": trace.services,
            "errors": trace.errors,
            "spans": [_span(node) for node in order(trace.spans)],
        }
        for trace in traces
    ]


def _span(node: Node) -> dict[str, Any]:
    comment = sql_comment.pairs(statement(node.span))
    place = {"service": node.span.service, "depth": node.depth, "parent_missing": node.lost}
    return {**_plain(asdict(node.span)), **place, "sql_comment": comment or None}


def _plain(value: Any) -> Any:
    """A value as OTLP writes it in JSON, which has neither bytes nor a number for what is none."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
