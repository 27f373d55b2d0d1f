"""``otel-cc stack``: the shop with collector, Prometheus, Alertmanager and Jaeger behind it, as processes on loopback."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from otel_cc.cli import terminal
from otel_cc.local.optional import Missing
from otel_cc.local.process import Interrupted, ProcessError, Processes, wait_until

if TYPE_CHECKING:
    from otel_cc.local.record import Record

app = typer.Typer(help="Run the shop with the whole stack behind it, on this machine.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where its state, data and logs are; default: otel-cc/stack in XDG_STATE_HOME."),
]

# What a person opens, in the order in which they are shown.
_SHOWN = ("shop-api", "prometheus", "alertmanager", "jaeger", "victoria-logs", "collector", "postgresql", "valkey")


def _record(folder: Path | None) -> Record:
    from otel_cc.local import record

    return record.Record(folder or record.default_folder())


def _command(words: str, record: Record | None = None) -> str:
    """A command as it can be pasted: with the path of a program that is not on the PATH, and with the folder."""
    from otel_cc.local.record import default_folder

    bare = shutil.which("otel-cc") or Path(sys.argv[0]).name != "otel-cc"
    command = f"{'otel-cc' if bare else shlex.quote(sys.argv[0])} {words}"
    if record is None or record.folder == default_folder().absolute():
        return command
    return f"{command} --folder {shlex.quote(str(record.folder))}"


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
        ports = {**(stack.FIXED if fixed_ports else {}), **_ports(port or [])}
        _ports_differ(ports)
        stack.require(logs=logs)
        if not record.acquire():
            _already(record)
            return
        if left := record.clean():
            terminal.say(f"Ended what an earlier run had left: {', '.join(left)}.")
        stack.check_ports(ports)
        if detach:
            record.release()
            _detach(record, sys.argv[1:])
        else:
            _foreground(record, ports, logs, rate)
    except Missing as error:
        terminal.fail(str(error), 2)
    except ProcessError as error:
        terminal.fail(str(error))


def _ports(given: list[str]) -> dict[str, int]:
    found = {}
    for text in given:
        name, _, number = text.partition("=")
        # Other alphabets have digits, too.
        if not (number.isascii() and number.isdigit() and len(number) < 6 and 0 < int(number) < 65536):
            raise ProcessError(f"--port {text} is not NAME=NUMBER, for example --port prometheus=9090.")
        found[name] = int(number)
    return found


def _ports_differ(ports: dict[str, int]) -> None:
    """See that no port has two names; what listens on it second would fail, or the first would answer for it."""
    names: dict[int, str] = {}
    for name, port in ports.items():
        if port in names:
            raise ProcessError(f"port {port} is given to {names[port]} and to {name}: choose another with --port.")
        names[port] = name


def _foreground(record: Record, ports: dict[str, int], logs: bool, rate: float) -> None:
    from otel_cc.local import demo, stack, traffic

    record.begin()
    try:
        with Processes(handle_signals=True, folder=record.run, on_start=record.started) as processes:
            try:
                with terminal.progress() as progress:

                    def step(text: str) -> None:
                        record.doing(text)
                        progress(text)

                    running = stack.start(
                        processes,
                        ports=ports,
                        logs=logs,
                        statements="mod",
                        database_home=record.scratch(),
                        progress=step,
                    )
                first = demo.send(running.shop.port, traffic.first())
                if rate:
                    processes.at_end(traffic.Traffic(running.shop.port, rate).start().stop)
                record.ready(running, first.ids[0])
                _urls(record.read())
                terminal.say("Ctrl-C stops it.")
                _watch(processes, running)
            finally:
                with terminal.progress() as progress:
                    progress("stopping everything")
                    processes.stop_all()
        if processes.interrupted:
            raise processes.interrupted
    except Interrupted as interrupted:
        terminal.say("Stopped; nothing is left running.")
        raise typer.Exit(interrupted.exit_code) from None
    except ProcessError as error:
        record.failed(str(error))
        raise
    finally:
        record.end()


def _watch(processes: Processes, running: Any) -> None:
    """Say of each program that ends by itself that it did; the others go on."""
    told = set()
    while True:
        processes.check()
        for program in running.ended():
            if program.name not in told:
                told.add(program.name)
                process = program.process
                terminal.say(f"{program.name} {process.how_it_ended()}. Its log ends:\n{process.tail()}", "red")
        time.sleep(0.2)


def _detach(record: Record, arguments: list[str]) -> None:
    """Have a process of its own do it, and wait until it is ready."""
    kept = [argument for argument in arguments if argument not in ("--detach", "-d")]
    command = [sys.executable, "-c", "from otel_cc.cli import main; main()", *kept]
    with open(record.log, "wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with terminal.progress() as progress:
            while not (state := record.read()).get("ready"):
                if child.poll() is not None:
                    said = record.log.read_text(errors="replace").strip().splitlines()
                    raise ProcessError(str(state.get("failure") or "\n".join(said[-20:])))
                progress(state.get("doing") or "starting")
                time.sleep(0.1)
    except KeyboardInterrupt:
        record.down()
        terminal.say("Stopped; nothing is left running.")
        raise
    _urls(state)
    terminal.say(f"It stays up; {_command('stack down', record)} ends it.")


def _already(record: Record) -> None:
    try:
        wait_until(lambda: record.read().get("supervisor"), 5)
    except TimeoutError:
        raise ProcessError(
            f"{record.folder} is in use by another process: try again, or choose another --folder."
        ) from None
    state = record.read()
    what = "runs already" if state.get("ready") else f"is being started ({state.get('doing')})"
    terminal.say(f"The stack {what}, under process {state['supervisor'][0]}.")
    _urls(state)


def _urls(state: dict[str, Any]) -> None:
    urls = {program["name"]: program["url"] for program in state.get("programs", [])}
    out = terminal.console()
    for name in _SHOWN:
        if urls.get(name):
            out.print(Text.assemble((f"{name:<14}", "bold"), urls[name]), soft_wrap=True)
    if state.get("request_id"):
        command = f"{_command('trace')} --jaeger {urls['jaeger']} {state['request_id']}"
        out.print(Text.assemble((f"{'a request':<14}", "bold"), command), soft_wrap=True)


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
            terminal.say(f"The supervisor was killed: {_command('stack down', record)} ends what it left.", "red")
        else:
            terminal.say(f"No stack is running: {_command('stack up', record)}.")
    else:
        _table(programs)
        if not state.get("ready"):
            terminal.say(f"It is being started: {state.get('doing')}.")
        for program in programs:
            if not program["ready"]:
                lines = Path(str(program["log"])).read_text(errors="replace").splitlines()[-10:]
                end = "\n".join(f"    {line}" for line in lines)
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
        terminal.fail(f"No stack is running: {_command('stack up', record)}.")
    if program and program not in files:
        terminal.fail(f"There is no program {program}: choose from {', '.join(files)}.")
    chosen = {program: files[program]} if program else files
    width = max(map(len, chosen))
    read: dict[str, int] = {}

    def show(name: str, text: str) -> None:
        for line in text.splitlines():
            print(line if program else f"{name:<{width}} | {line}", flush=True)

    for name, path in chosen.items():
        data = path.read_bytes()
        read[name] = len(data)
        last = data.decode(errors="replace").splitlines()[-lines:] if lines else []
        show(name, "\n".join(last))
    while follow and record.supervisor() is not None:
        for name, path in chosen.items():
            with open(path, "rb") as file:
                file.seek(read[name])
                added = file.read()
            complete = added[: added.rfind(b"\n") + 1]
            read[name] += len(complete)
            show(name, complete.decode(errors="replace"))
        time.sleep(0.2)
