"""``otel-cc demo``: the whole path of seven requests through a real API, database, broker and worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from otel_cc.cli import terminal
from otel_cc.local.optional import Missing
from otel_cc.local.process import ProcessError, Processes

if TYPE_CHECKING:
    from otel_cc.local.application import Shop
    from otel_cc.local.stack import Stack


def demo(
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Stay up afterwards, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a report.")] = False,
    stack: Annotated[
        bool, typer.Option("--stack", envvar="STACK", help="With the collector, Prometheus and Jaeger; ask those.")
    ] = False,
) -> None:
    """Show one request ID on its way: response, spans, SQL as PostgreSQL logged it, worker, log lines.

    Starts a real PostgreSQL, a real Valkey, the API of examples/shop and a Celery worker on free ports of this machine,
    sends requests, prints what each of them left behind, and removes everything again.
    """
    # Here, so that --help and --version do not pay for protobuf.
    from otel_cc.local import application, jaeger_client
    from otel_cc.local import stack as local_stack

    try:
        if stack:
            local_stack.require()
        else:
            application.require()
        with terminal.programs() as processes:
            _run(processes, keep, as_json, stack)
    except Missing as error:
        terminal.fail(str(error), 2)
    except (ProcessError, jaeger_client.Unavailable) as error:
        terminal.fail(str(error))


def _run(processes: Processes, keep: bool, as_json: bool, stack: bool) -> None:
    from otel_cc.local import demo as local_demo
    from otel_cc.local import demo_report, tally

    begin = time.monotonic()
    with ExitStack() as opened, terminal.progress() as progress:
        shop, backend, running = _start(processes, opened, stack, progress)
        all_found = local_demo.run(shop, backend, processes, progress)
        progress("waiting for the metrics")
        tallies = tally.tallies(backend, all_found)
        lookups = [] if running is None else [check for found in all_found for check in backend.lookups(found)]
    seconds = time.monotonic() - begin
    if as_json:
        answer = {**demo_report.as_json(all_found, tallies, lookups), "seconds": round(seconds, 3)}
        print(json.dumps(answer, indent=2, default=repr), flush=True)
    else:
        out = terminal.console()
        for number, found in enumerate(all_found, 1):
            processes.check()
            demo_report.show(out, number, found)
        demo_report.show_tallies(out, tallies)
        if running is not None:
            demo_report.show_lookups(out, lookups)
        out.print()
    checks = [check for found in all_found for check in found.checks()] + [one.check() for one in tallies]
    checks += lookups
    problems = [check.problem for check in checks if not check.ok]
    if problems:
        terminal.say(f"{len(problems)} of {len(checks)} checks failed: {'; '.join(dict.fromkeys(problems))}.", "red")
        for line in local_demo.complaints(shop):
            terminal.say(f"{line.service} says: {line.message} {line.exception}".rstrip())
    elif not as_json:
        verdict = "the ID is the same at every hop, and the metrics agree"
        text = f"✓ {len(all_found)} requests, {len(checks)} checks: {verdict} ({seconds:.0f} s)."
        out.print(Text(text, style="bold green"))
    if keep:
        _stay(processes, shop, running)
    if problems:
        raise typer.Exit(1)


def _start(
    processes: Processes, opened: ExitStack, stack: bool, progress: Callable[[str], None]
) -> tuple[Shop, Any, Stack | None]:
    """The shop, where to ask for its telemetry, and the stack behind it if there is one."""
    from otel_cc.local import application, backend
    from otel_cc.local import stack as local_stack
    from otel_cc.local.sink import Sink

    if stack:
        running = local_stack.start(processes, interval="1s", progress=progress)
        return running.shop, opened.enter_context(backend.FromStack(running)), running
    sink = Sink().start()
    processes.at_end(sink.stop)
    return application.start(processes, sink.endpoint, progress=progress), backend.FromSink(sink), None


def _stay(processes: Processes, shop: Shop, running: Stack | None) -> None:
    err = terminal.console(stderr=True)
    err.print()
    for name, value in (
        ("API", f"{shop.url}/docs"),
        ("PostgreSQL", shop.database.url),
        ("Valkey", shop.broker.url),
        ("OTLP", shop.endpoint),
        *([("Prometheus", running.prometheus.url), ("Jaeger", running.jaeger.url)] if running else []),
        ("logs", str(processes.folder)),
        ("status", f"OTEL_CC_STATUS_DIR={shop.status_dir} otel-cc status"),
    ):
        err.print(Text.assemble((f"{name:<11}", "bold"), value), soft_wrap=True)
    err.print("Ctrl-C stops it.")
    while (ended := shop.ended()) is None:
        processes.check()
        time.sleep(0.2)
    raise ProcessError(f"{ended.name} has ended. Its log ends:\n{ended.tail()}")
