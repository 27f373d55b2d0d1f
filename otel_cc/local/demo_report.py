"""The demo's report: the whole path of each request, for people (a terminal of any width) and for machines (JSON)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from otel_cc.local import sql_comment
from otel_cc.local.application import API, WORKER
from otel_cc.local.evidence import HEADER, Check, Evidence
from otel_cc.local.postgres import Statement
from otel_cc.local.tally import Tally
from otel_cc.local.tree import duration, order, trees

_SERVICE_STYLES = {API: "cyan", WORKER: "magenta"}


def show(console: Console, number: int, found: Evidence) -> None:
    """Print one request's path."""
    console.print()
    console.print(Rule(Text(f"{number}  {found.request.title}", style="bold"), align="left", style="dim"))
    # Data from outside may look like markup: everything is passed as Text, nothing is parsed.
    body = Group(
        *_exchange(found),
        Text(),
        _heading(f"trace {found.trace_id or 'not found'}"),
        *trees(order(found.spans), _SERVICE_STYLES),
        Text(),
        _heading(f"PostgreSQL logged {_count(len(found.statements), 'statement')} with this ID"),
        *_statements(found.statements, console.width - 2),
        Text(),
        _heading(f"{_count(len(found.lines), 'log line')} with this ID"),
        _log(found),
        Text(),
        _checks(found),
    )
    console.print(_Indented(body))


class _Indented:
    """Two spaces in front of each line and, unlike rich's own padding, none behind it."""

    def __init__(self, content: RenderableType) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.content, options.update_width(options.max_width - 2), pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                last = line.pop()
                yield Segment("  ")
                yield from line
                yield Segment(last.text.rstrip(), last.style)
            yield Segment.line()


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _exchange(found: Evidence) -> Iterator[RenderableType]:
    request, response = found.request, found.response
    yield Text.assemble((f"{request.method} {request.path}", "bold"))
    for name, value in request.headers.items():
        yield Text(f"{name}: {value}")
    if request.body is not None:
        yield Text(json.dumps(request.body), style="dim")
    yield Text()
    style = "green" if response.status < 400 else "yellow" if response.status < 500 else "red"
    yield Text.assemble((str(response.status), f"bold {style}"), f" in {duration(response.seconds)}")
    for value in response.ids:
        yield Text.assemble(f"{HEADER}: ", (value, "bold"))
    yield Text(response.body, style="dim")


def _statements(statements: list[Statement], width: int) -> Iterator[RenderableType]:
    for statement in statements:
        style = _SERVICE_STYLES.get(statement.application, "")
        # The columns are no news; the comment is, and it is shown as it is, broken after commas only.
        text, comments = sql_comment.split(statement.sql)
        plain = " ".join(text.split())
        room = max(width - len(statement.application) - 2, 20)
        yield Text.assemble(
            (statement.application, style), "  ", plain if len(plain) <= room else f"{plain[: room - 3]}..."
        )
        for comment in comments:
            for line in _wrap(comment, max(width - 4, 20)):
                yield Text(f"    {line}", style="dim")


def _wrap(comment: str, width: int) -> list[str]:
    lines = [""]
    for part in re.findall(r"[^,]*,|[^,]+", comment):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def _log(found: Evidence) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in found.lines:
        style = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}.get(line.level, "dim")
        message = re.sub(r"\s+", " ", line.message).strip()
        # The record has the whole traceback; one line says enough here.
        if line.exception:
            message += f" ({line.exception})"
        table.add_row(Text(line.service, _SERVICE_STYLES.get(line.service, "")), Text(line.level, style), Text(message))
    return table


def _checks(found: Evidence) -> Text:
    checks = found.checks()
    text = Text()
    for check in checks:
        text.append("✓ " if check.ok else "✗ ", style="bold green" if check.ok else "bold red")
        text.append(f"{check.name}   ")
    for check in checks:
        if not check.ok:
            text.append(f"\n✗ {check.name}: {check.problem}", style="red")
    return text


def show_tallies(console: Console, tallies: list[Tally]) -> None:
    """Print what the metrics say beside what was sent."""
    console.print()
    console.print(Rule(Text("What the metrics say of all of them", style="bold"), align="left", style="dim"))
    table = Table.grid(padding=(0, 2))
    for tally in tallies:
        check = tally.check()
        numbers = "  ".join(f"{value} {number}" for value, number in tally.exported.items())
        mark = Text("✓", style="bold green") if check.ok else Text("✗", style="bold red")
        table.add_row(mark, Text(tally.shown), Text(numbers, style="dim"))
    console.print(_Indented(table))


def show_lookups(console: Console, lookups: list[Check]) -> None:
    """Print how many requests Jaeger finds by which ID."""
    console.print()
    console.print(Rule(Text("What Jaeger finds", style="bold"), align="left", style="dim"))
    table = Table.grid(padding=(0, 2))
    for name in dict.fromkeys(check.name for check in lookups):
        ok = [check.ok for check in lookups if check.name == name]
        mark = Text("✓", style="bold green") if all(ok) else Text("✗", style="bold red")
        table.add_row(mark, Text(name), Text(f"{sum(ok)} of {len(ok)} requests", style="dim"))
    console.print(_Indented(table))


def as_json(all_found: list[Evidence], tallies: list[Tally], lookups: Sequence[Check] = ()) -> dict[str, Any]:
    """The same for machines."""
    requests = [_one_as_json(found) for found in all_found]
    metrics = [{**asdict(tally), "prometheus": tally.shown, "ok": tally.check().ok} for tally in tallies]
    ok = not any(request["problems"] for request in requests) and all(tally.check().ok for tally in tallies)
    ok = ok and all(check.ok for check in lookups)
    found = {"lookups": [{**asdict(check), "ok": check.ok} for check in lookups]} if lookups else {}
    return {"ok": ok, "requests": requests, "metrics": metrics, **found}


def _one_as_json(found: Evidence) -> dict[str, Any]:
    checks = found.checks()
    return {
        "request": asdict(found.request),
        "response": asdict(found.response),
        "request_id": found.request_id,
        "trace_id": found.trace_id,
        "spans": [asdict(span) for span in found.spans],
        "statements": [
            {**asdict(statement), "comment": sql_comment.pairs(statement.sql)} for statement in found.statements
        ],
        "log_lines": [{"service": line.service, **line.fields} for line in found.lines],
        "checks": {check.name: check.ok for check in checks},
        "problems": [check.problem for check in checks if not check.ok],
    }
