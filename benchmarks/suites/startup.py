"""Start-up: CPU and memory of uvicorn under the launcher, from the first instruction to the first answered request."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.child import ChildError
from benchmarks.clock import rounds
from benchmarks.machine import Machine
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.variant import Variant, exports
from otel_cc.local.process import Process, wait_until

_SERVER = ["-m", "uvicorn", "benchmarks.workload.server:app", "--log-level", "warning", "--uds"]


def run(machine: Machine, plan: Plan, results: Results, variants: Sequence[Variant], seconds: float) -> None:
    """Start all variants at the same time, again and again: each is as slow as the machine is in that moment."""
    cases = [(variant, export) for variant in variants for export in exports(variant, plan.side_exports)]
    for _ in rounds(seconds, plan.least, plan.most):
        with ExitStack() as stack:
            servers = [(case, _start(machine, stack, *case)) for case in random.sample(cases, len(cases))]
            for (variant, export), (process, path) in servers:
                results.add("start-up", variant.name, export, _usage(process, path))


def _start(machine: Machine, stack: ExitStack, variant: Variant, export: str) -> tuple[Process, Path]:
    path = machine.processes.folder / f"{machine.name()}.sock"
    process = machine.start(variant, export, "uvicorn", [*_SERVER, str(path)])
    stack.callback(process.stop)
    return process, path


def _usage(process: Process, path: Path) -> dict[str, float]:
    wait_until(lambda: path.exists() or not process.running, 60, "uvicorn's socket")
    if not process.running:
        raise ChildError(f"{process.name} ended:\n{process.tail()}")
    _get(path, "/json")
    usage: dict[str, float] = json.loads(_get(path, "/usage"))
    return usage


def _get(path: Path, target: str) -> bytes:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", target)
        return connection.getresponse().read()
    finally:
        connection.close()
