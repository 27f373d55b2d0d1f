"""``otel-cc status``: what each instrumented process on this machine said about itself when it started to serve."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from otel_cc import report
from otel_cc.cli import terminal
from otel_cc.local import proctree


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Show which processes are instrumented, what was skipped and why, and where telemetry goes."""
    folder = report.status_dir()
    if folder is None:
        terminal.fail("No status is written, because OTEL_CC_STATUS_DIR is off: set it to a folder.")
    states = read(folder)
    if as_json:
        print(json.dumps(states, indent=2))
    elif not states:
        print(f"No instrumented process is running (looked in {folder}).")
    else:
        _show(states)


def read(folder: Path) -> list[dict[str, Any]]:
    """The states of the running processes, oldest first; the files of those that are gone are removed."""
    states = []
    for file in folder.glob("*.json"):
        try:
            state = json.loads(file.read_text())
            alive = isinstance(state, dict) and _alive(int(state["pid"]), float(state["started"]))
        except FileNotFoundError:
            # Its process ended just now.
            continue
        except (ValueError, KeyError, TypeError):
            alive = False
        if alive:
            states.append(state)
        else:
            file.unlink(missing_ok=True)
    return sorted(states, key=lambda state: (state["started"], state["pid"]))


def _alive(pid: int, published: float) -> bool:
    """Whether the process that wrote the file runs; one that began after the file was written only has its number."""
    began = proctree.began(pid)
    return began is not None and began <= published + 1


def _show(states: list[dict[str, Any]]) -> None:
    out = terminal.console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("PID", "SERVICE", "KIND", "UP", "INSTRUMENTED", "TELEMETRY GOES TO"):
        table.add_column(name, overflow="fold", justify="right" if name in ("PID", "UP") else "left")
    for state in states:
        table.add_row(
            str(state["pid"]),
            Text(str(state.get("service") or "-")),
            Text(str(state.get("kind") or "-")),
            _age(time.time() - state["started"]),
            Text(_pairs(state.get("instrumented")) or "nothing"),
            Text(_destinations(state.get("destinations")) or "nowhere"),
        )
    out.print(table)
    for state in states:
        notes = [f"skipped {name}: {why}" for name, why in (state.get("skipped") or {}).items()]
        notes += [f"{name} traces this process too" for name in state.get("other_tracers") or []]
        notes += [str(problem) for problem in state.get("problems") or []]
        if notes:
            out.print()
            out.print(Text(f"{state['pid']}  {state.get('command', '')}", style="bold"))
            for note in notes:
                out.print(Text(f"  {note}"))


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _pairs(values: dict[str, str] | None) -> str:
    return ", ".join(f"{name} ({how})" for name, how in (values or {}).items())


def _destinations(values: dict[str, str] | None) -> str:
    """Signals that go to the same place are named together."""
    by_place: dict[str, list[str]] = {}
    for signal, place in (values or {}).items():
        by_place.setdefault(place, []).append(signal)
    return "; ".join(f"{place} ({', '.join(signals)})" for place, signals in by_place.items())
