"""What a run needs around the measured processes: environments, servers, the sink, and how a process is started."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.child import Child
from benchmarks.environment import ROOT, Environments
from benchmarks.variant import BARE, Variant, exporting
from otel_cc.local import postgres, valkey
from otel_cc.local.process import Process, Processes, says
from otel_cc.local.process import environment as clean
from otel_cc.local.valkey import Valkey

# The stock launcher, as its script starts it; through -c, because the two environments have two script folders.
_LAUNCHER = ["-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"]


@dataclass(frozen=True)
class Machine:
    """The place of one run.

    :param processes: what runs beside the measured processes; everything ends with it
    :param sink: address of the OTLP sink
    :param environ: variables that every measured process gets
    """

    processes: Processes
    environments: Environments
    broker: Valkey
    sink: str
    environ: Mapping[str, str]
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def command(self, variant: Variant, arguments: Sequence[str]) -> list[str]:
        """The command line that runs ``python <arguments>`` as this variant."""
        python = str(self.environments.ours if variant.ours else self.environments.base)
        return [python, *_LAUNCHER, python, *arguments] if variant.launched else [python, *arguments]

    def name(self) -> str:
        """A name that nothing else of this run has."""
        return f"p{next(self._names)}"

    def environment(self, variant: Variant, export: str, **extra: str) -> dict[str, str]:
        """The environment of one measured process, with a path of its own at the sink."""
        exporter = exporting(export, f"{self.sink}/{self.name()}")
        return clean({**self.environ, **exporter, **variant.environ, **extra})

    @contextmanager
    def child(self, variant: Variant, export: str, module: str, *arguments: str, **extra: str) -> Iterator[Child]:
        """A measured process that waits for orders; it ends with the block.

        :param module: of ``benchmarks.workload``
        :param extra: more variables
        """
        command = self.command(variant, ["-m", f"benchmarks.workload.{module}", *arguments])
        environment = self.environment(variant, export, **extra)
        with Child(f"{module} as {variant.name}", command, environment, self.processes.folder) as child:
            yield child

    def start(self, variant: Variant, export: str, name: str, arguments: Sequence[str], **extra: str) -> Process:
        """A measured server; the caller stops it."""
        return self.processes.start(
            f"{name} {variant.name} {export}",
            self.command(variant, arguments),
            env=self.environment(variant, export, **extra),
            cwd=self.processes.folder,
        )


@contextmanager
def machine(environments: Environments) -> Iterator[Machine]:
    """Start the servers, and leave nothing behind."""
    with Processes(handle_signals=True) as processes:
        server = postgres.start(processes, config={"log_statement": "none"})
        broker = valkey.start(processes)
        environ = {
            "PYTHONPATH": str(ROOT),
            "BENCH_SQLITE": str(processes.folder / "bench.sqlite"),
            "BENCH_POSTGRES": server.url,
            "BENCH_BROKER": broker.url,
            "OTEL_SERVICE_NAME": "bench",
            "OTEL_CC_STATUS_DIR": str(processes.folder / "status"),
        }
        place = Machine(processes, environments, broker, _sink(processes, environments), environ)
        tables = place.command(BARE, ["-m", "benchmarks.workload.tables"])
        subprocess.run(tables, env=place.environment(BARE, ""), cwd=processes.folder, check=True)
        yield place


def _sink(processes: Processes, environments: Environments) -> str:
    program = str(Path(__file__).with_name("sink.py"))
    process = processes.start("sink", [str(environments.base), program], ready=says(r"(?m)^\d+$"))
    return f"http://127.0.0.1:{json.loads(process.output())}"
