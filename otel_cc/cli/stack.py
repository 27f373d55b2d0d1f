"""``otel-cc stack``: the shop with collector, Prometheus, Alertmanager and Jaeger behind it, as processes on loopback."""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from otel_cc.cli import stack_up, terminal
from otel_cc.local.optional import Missing
from otel_cc.local.process import ProcessError

if TYPE_CHECKING:
    from otel_cc.local.record import Record

app = typer.Typer(help="Run the shop with the whole stack behind it, on this machine.", no_args_is_help=True)

# A disk, a share of it, or a file that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where its state, data and logs are; default: otel-cc/stack in XDG_STATE_HOME."),
]


def _record(folder: Path | None) -> Record:
    from otel_cc.local import record

    try:
        return record.Record(folder or record.default_folder())
    except ProcessError as error:
        terminal.fail(str(error))


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready and leave it running.")
    ] = False,
    fixed_ports: Annotated[bool, typer.Option("--fixed-ports", help="Take the usual ports, 9090 and so on.")] = False,
    port: Annotated[
        list[str] | None, typer.Option("--port", metavar="NAME=NUMBER", help="Choose one port; may be repeated.")
    ] = None,
    logs: Annotated[bool, typer.Option("--logs", help="With VictoriaLogs as a store of logs.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0, max=100, help="Requests per second; 0 sends none.")] = 5.0,
    folder: Folder = None,
) -> None:
    """Start everything, send steady traffic, and stay until Ctrl-C."""
    from otel_cc.local import stack

    record = _record(folder)
    try:
        ports = stack_up.ports(port or [], stack.FIXED if fixed_ports else {})
        stack.require(logs=logs)
        if not record.acquire():
            stack_up.already(record)
            return
        if left := record.clean():
            terminal.say(f"Ended what an earlier run had left: {', '.join(left)}.")
        stack.check_ports(ports)
        if detach:
            record.release()
            stack_up.detach(record, sys.argv[1:])
        else:
            stack_up.foreground(record, ports, logs, rate)
    except Missing as error:
        terminal.fail(str(error), 2)
    except ProcessError as error:
        terminal.fail(str(error))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        terminal.fail(f"{record.folder} cannot be written ({error.strerror}): make room, or choose another --folder.")


@app.command()
def down(folder: Folder = None) -> None:
    """End the stack and wait for its end; also end what a killed one has left."""
    record = _record(folder)
    try:
        with terminal.progress() as progress:
            progress("stopping everything")
            there, left = record.down()
    except ProcessError as error:
        terminal.fail(str(error))
    if left:
        terminal.say(f"Ended what a killed supervisor had left: {', '.join(left)}.")
    terminal.say("Stopped; nothing is left running." if there or left else "No stack is running.")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    folder: Folder = None,
) -> None:
    """Show each program: whether it is ready, since when, and where; exit code 1 unless all are."""
    from otel_cc.local import record as records

    record = _record(folder)
    state, pid = record.read(), record.supervisor()
    programs = [
        {
            "name": program["name"],
            "pid": program["pid"],
            "url": program["url"],
            "ready": records.is_ready(program),
            "uptime": round(time.time() - program["since"], 1),
            "log": program["log"],
        }
        for program in state.get("programs", [])
    ]
    ok = pid is not None and bool(state.get("ready")) and all(program["ready"] for program in programs)
    if as_json:
        answer = {
            "ready": ok,
            "supervisor": pid,
            "folder": str(record.folder),
            "request_id": state.get("request_id", ""),
        }
        print(json.dumps({**answer, "programs": programs}, indent=2))
    elif pid is None:
        if state.get("started"):
            terminal.say(
                f"The supervisor was killed: {stack_up.command('stack down', record)} ends what it left.", "red"
            )
        else:
            terminal.say(f"No stack is running: {stack_up.command('stack up', record)}.")
    else:
        _table(programs)
        if not state.get("ready"):
            terminal.say(f"It is being started: {state.get('doing')}.")
        for program in programs:
            if not program["ready"]:
                last = _last(_content(Path(program["log"])), 10) or ["(no output)"]
                end = "\n".join(f"    {line}" for line in last)
                terminal.say(f"{program['name']} is not ready. Its log ends:\n{end}", "red")
    if not ok:
        raise typer.Exit(1)


def _table(programs: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("PROGRAM", "PID", "READY", "UP", "URL"):
        table.add_column(name, overflow="fold", justify="right" if name in ("PID", "UP") else "left")
    for program in programs:
        ready = Text("yes", "green") if program["ready"] else Text("no", "red")
        age = f"{program['uptime']:.0f} s"
        table.add_row(program["name"], str(program["pid"]), ready, age, Text(program["url"]))
    terminal.console().print(table)


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="One program; default: all of them.")] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay, and print what is added, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each.")] = 20,
    folder: Folder = None,
) -> None:
    """Print the end of the programs' logs."""
    record = _record(folder)
    files = {one["name"]: Path(one["log"]) for one in record.read().get("programs", [])}
    if not files:
        terminal.fail(f"No stack is running: {stack_up.command('stack up', record)}.")
    if program and program not in files:
        terminal.fail(f"There is no program {program}: choose from {', '.join(files)}.")
    chosen = {program: files[program]} if program else files
    width = max(map(len, chosen))
    read: dict[str, int] = {}

    def show(name: str, text: str) -> None:
        for line in text.splitlines():
            print(line if program else f"{name:<{width}} | {line}", flush=True)

    for name, path in chosen.items():
        if not path.exists():
            terminal.say(f"{path} was removed: {stack_up.command('stack down', record)} and up begin a new one.")
        data = _content(path)
        read[name] = len(data)
        show(name, "\n".join(_last(data, lines)))
    while follow and record.supervisor() is not None:
        for name, path in chosen.items():
            added = _content(path, read[name])
            complete = added[: added.rfind(b"\n") + 1]
            read[name] += len(complete)
            show(name, complete.decode(errors="replace"))
        time.sleep(0.2)


def _content(log: Path, start: int = 0) -> bytes:
    """What a log has from there on; nothing when somebody has removed it."""
    try:
        with open(log, "rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""


def _last(text: bytes, lines: int) -> list[str]:
    return text.decode(errors="replace").splitlines()[-lines:] if lines else []
