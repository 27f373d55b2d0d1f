"""What the verbs share: data go to stdout, everything a person reads beside it to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from otel_cc.local.process import Interrupted, Processes

# A pipe or a file has no width; this one holds a request ID, a trace ID and what stands beside them.
_WIDTH = 110


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that never fails on a character and never guesses a width of 80."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def say(message: str, style: str = "") -> None:
    """Print a sentence to stderr."""
    console(stderr=True).print(Text(message, style=style), soft_wrap=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print a sentence to stderr and end with an exit code."""
    say(message, "red")
    raise typer.Exit(code)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """What is being done: one changing line on a terminal, one line for each step elsewhere."""
    out = console(stderr=True)
    if not out.is_terminal:
        last = ""

        def step(text: str) -> None:
            nonlocal last
            if text != last:
                out.print(Text(f"{text} ..."), soft_wrap=True)
            last = text

        yield step
        return
    with out.status(Text("starting")) as spinner:
        yield lambda text: spinner.update(Text(text))


@contextmanager
def programs(**options: Any) -> Iterator[Processes]:
    """Programs that run as long as the block; Ctrl-C and other signals end them in order, and the command with them.

    :param options: of :class:`otel_cc.local.process.Processes`
    """
    try:
        with Processes(handle_signals=True, **options) as processes:
            try:
                yield processes
            finally:
                with progress() as step:
                    step("stopping everything")
                    processes.stop_all()
        if processes.interrupted:
            raise processes.interrupted
    except Interrupted as interrupted:
        say("Stopped; nothing is left running.")
        raise typer.Exit(interrupted.exit_code) from None
