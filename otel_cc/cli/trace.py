"""``otel-cc trace ID``: what happened in a request, from the ID that its caller was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from otel_cc.cli import terminal

if TYPE_CHECKING:
    from otel_cc.local.lookup import Lookup
    from otel_cc.local.traces import Trace


def trace(
    id: Annotated[str, typer.Argument(metavar="ID", help="A request ID, UUID, trace ID or traceparent.")],
    jaeger: Annotated[
        str, typer.Option("--jaeger", envvar="OTEL_CC_JAEGER_URL", metavar="URL", help="Where Jaeger answers.")
    ] = "http://127.0.0.1:16686",
    # Typer reads the annotations of Python 3.10 only in this form.
    file: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--file", "-f", help="Look into a file of OTLP JSON lines instead; may be given again."),
    ] = None,
    days: Annotated[float, typer.Option(min=0, max=3650, help="How far back to search by request ID.")] = 7,
    limit: Annotated[int, typer.Option(min=0, help="Spans to show of each trace; 0 shows all.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Show the trace of a request as a tree: services, spans, durations, SQL and errors.

    Looks for a trace with this ID first, then for requests with it. Ends with 1 when there is none, and with 2 when the
    ID is none or when nothing could be asked.
    """
    from otel_cc.local import lookup

    try:
        wanted = lookup.parse(id)
    except ValueError as error:
        terminal.fail(str(error), 2)
    traces = _in_files(wanted, file) if file else _in_jaeger(wanted, jaeger, days)
    from otel_cc.local import trace_report

    if as_json:
        print(json.dumps(trace_report.as_json(traces), indent=2, allow_nan=False))
        return
    out = terminal.console()
    for number, found in enumerate(traces):
        if number:
            out.print()
        trace_report.show(out, found, limit=limit)
    if len(traces) > 1:
        terminal.say(f"{len(traces)} traces have this ID; oldest first.")


def _in_files(wanted: Lookup, files: list[Path]) -> list[Trace]:
    from otel_cc.local import traces
    from otel_cc.local.otlp_json import Unreadable

    try:
        found = traces.in_files(files, wanted)
    except Unreadable as error:
        terminal.fail(str(error), 2)
    if not found:
        terminal.fail(f"No trace of {wanted.text} is in {', '.join(map(str, files))}.")
    return found


def _in_jaeger(wanted: Lookup, url: str, days: float) -> list[Trace]:
    from otel_cc.local.optional import Missing, need

    try:
        need("httpx", "tools")
    except Missing as error:
        terminal.fail(str(error), 2)
    from otel_cc.local.jaeger_client import Client, Unavailable

    try:
        with Client(url) as jaeger, terminal.progress() as progress:
            found = jaeger.find(wanted, days=days, progress=progress)
            services = [] if found else jaeger.services()
    except Unavailable as error:
        terminal.fail(str(error), 2)
    if not found:
        _say_what_may_be(wanted, jaeger.url, services, days)
        raise typer.Exit(1)
    return found


def _say_what_may_be(wanted: Lookup, url: str, services: list[str], days: float) -> None:
    from otel_cc.local.tree import printable

    within = f" of the last {days:g} days" if wanted.request_id else ""
    terminal.say(f"Jaeger at {url} has no trace{within} for {wanted.text}.", "red")
    if services:
        names = ", ".join(printable(service, 60) for service in services[:10])
        terminal.say(
            f"It has spans of {names}{' and others' if len(services) > 10 else ''}. A trace arrives some seconds after its "
            "response; a request that was not sampled has an ID but no trace: look for the ID in the logs."
        )
    else:
        terminal.say(
            "It has no spans at all: is OTEL_EXPORTER_OTLP_ENDPOINT of the application set, and to what leads here?"
        )
