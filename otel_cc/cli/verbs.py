"""The list of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_cc.cli import stack
from otel_cc.cli.demo import demo
from otel_cc.cli.status import status
from otel_cc.cli.trace import trace
from otel_cc.version import __version__

app = typer.Typer(
    name="otel-cc",
    help="One ID for each request through FastAPI, SQLAlchemy and Celery.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(status)
app.add_typer(stack.app, name="stack")
app.command()(trace)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"otel-cc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One ID for each request through FastAPI, SQLAlchemy and Celery."""
