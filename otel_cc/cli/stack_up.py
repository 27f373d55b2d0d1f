"""What ``otel-cc stack up`` does: run the stack until Ctrl-C, or have a process of its own do so, and say where it is."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from otel_cc.cli import terminal
from otel_cc.local.process import ProcessError, Processes, wait_until

if TYPE_CHECKING:
    from otel_cc.local.record import Record

# What a person opens, in the order in which they are shown.
_SHOWN = ("shop-api", "prometheus", "alertmanager", "jaeger", "victoria-logs", "collector", "postgresql", "valkey")


def command(words: str, record: Record | None = None) -> str:
    """A command as it can be pasted: with the path of a program that is not on the PATH, and with the folder."""
    from otel_cc.local.record import default_folder

    bare = shutil.which("otel-cc") or Path(sys.argv[0]).name != "otel-cc"
    text = f"{'otel-cc' if bare else shlex.quote(sys.argv[0])} {words}"
    if record is None:
        return text
    # Without a home there is no usual folder.
    with suppress(ProcessError):
        if record.folder == default_folder().absolute():
            return text
    return f"{text} --folder {shlex.quote(str(record.folder))}"


def ports(given: list[str], usual: dict[str, int]) -> dict[str, int]:
    """The ports that ``--port`` and ``--fixed-ports`` ask for.

    :param usual: those that hold unless another is given
    :raises ProcessError: one is no port, or two names have the same
    """
    found = dict(usual)
    for text in given:
        name, _, number = text.partition("=")
        # Other alphabets have digits, too.
        if not (number.isascii() and number.isdigit() and len(number) < 6 and 0 < int(number) < 65536):
            raise ProcessError(f"--port {text} is not NAME=NUMBER, for example --port prometheus=9090.")
        found[name] = int(number)
    _see_that_they_differ(found)
    return found


def _see_that_they_differ(ports: dict[str, int]) -> None:
    """See that no port has two names; what listens on it second would fail, or the first would answer for it."""
    names: dict[int, str] = {}
    for name, port in ports.items():
        if port in names:
            raise ProcessError(f"port {port} is given to {names[port]} and to {name}: choose another with --port.")
        names[port] = name


def foreground(record: Record, ports: dict[str, int], logs: bool, rate: float) -> None:
    """Start everything, send steady traffic, and stay until Ctrl-C.

    :param logs: whether VictoriaLogs belongs to it
    :param rate: requests per second
    :raises ProcessError: something does not start
    """
    from otel_cc.local import demo, stack, traffic

    record.begin()
    try:
        with terminal.programs(folder=record.run, on_start=record.started) as processes:
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
            _show(record.read())
            terminal.say("Ctrl-C stops it.")
            _watch(processes, running)
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


def detach(record: Record, arguments: list[str]) -> None:
    """Have a process of its own do it, and wait until it is ready; Ctrl-C until then ends it and everything it started."""
    kept = [argument for argument in arguments if argument not in ("--detach", "-d")]
    program = [sys.executable, "-c", "from otel_cc.cli import main; main()", *kept]
    with _remembered() as signals:
        with open(record.log, "wb") as log:
            child = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        with terminal.progress() as progress:
            while not signals and not (state := record.read()).get("ready"):
                if child.poll() is not None:
                    said = record.log.read_text(errors="replace").strip().splitlines()
                    raise ProcessError(
                        state.get("failure")
                        or "\n".join(said[-20:])
                        or f"the supervisor ended with exit code {child.returncode} and wrote nothing to {record.log}: "
                        "is the disk full?"
                    )
                progress(state.get("doing") or "starting")
                time.sleep(0.1)
        if signals:
            with terminal.progress() as progress:
                progress("stopping everything")
                _end(child, signals)
                record.down()
            terminal.say("Stopped; nothing is left running.")
            raise typer.Exit(128 + signals[0])
    _show(state)
    terminal.say(f"It stays up; {command('stack down', record)} ends it.")


@contextmanager
def _remembered() -> Iterator[list[int]]:
    """The signals that arrive in the block; an exception could come before we know the process that we started."""
    arrived: list[int] = []
    before = {
        signum: signal.signal(signum, lambda number, _frame: arrived.append(number))
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield arrived
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _end(supervisor: subprocess.Popen[bytes], signals: list[int]) -> None:
    """Have a supervisor that is our child end everything it started; each further signal of ours makes it hurry."""
    from otel_cc.local.record import STOP

    handed_on = 0
    deadline = time.monotonic() + STOP
    while supervisor.poll() is None:
        if handed_on < len(signals):
            handed_on = len(signals)
            supervisor.terminate()
        if time.monotonic() > deadline:
            supervisor.kill()
        time.sleep(0.05)


def already(record: Record) -> None:
    """Show the stack that another process runs."""
    try:
        wait_until(lambda: record.read().get("supervisor"), 5)
    except TimeoutError:
        raise ProcessError(
            f"{record.folder} is in use by another process: try again, or choose another --folder."
        ) from None
    state = record.read()
    what = "runs already" if state.get("ready") else f"is being started ({state.get('doing')})"
    terminal.say(f"The stack {what}, under process {state['supervisor'][0]}.")
    _show(state)


def _show(state: dict[str, Any]) -> None:
    urls = {program["name"]: program["url"] for program in state.get("programs", [])}
    out = terminal.console()
    for name in _SHOWN:
        if urls.get(name):
            out.print(Text.assemble((f"{name:<14}", "bold"), urls[name]), soft_wrap=True)
    if state.get("request_id"):
        look = f"{command('trace')} --jaeger {urls['jaeger']} {state['request_id']}"
        out.print(Text.assemble((f"{'a request':<14}", "bold"), look), soft_wrap=True)
