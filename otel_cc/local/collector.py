"""Our collector as a process on loopback: with its configuration, overlays, ports, and a folder for what it has accepted."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from otel_cc.collector import queue_check
from otel_cc.local import programs
from otel_cc.local.process import Process, Processes, environment, free_port
from otel_cc.local.shipped import shipped

_PORTS = {
    "grpc": "OTEL_CC_COLLECTOR_GRPC_PORT",
    "http": "OTEL_CC_COLLECTOR_HTTP_PORT",
    "health": "OTEL_CC_COLLECTOR_HEALTH_PORT",
    "metrics": "OTEL_CC_COLLECTOR_METRICS_PORT",
}

# Without it file_log keeps lines in memory for up to 100 ms after it has noted down that it has read them.
_GATES = "--feature-gates=stanza.synchronousLogEmitter"

_SAMPLE = re.compile(r"(?m)^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$")


def command(verb: str = "", overlays: Sequence[str] = ("local",)) -> list[str]:
    """The command line of the collector.

    :param verb: "" runs it; "validate", "print-config"
    :param overlays: names in collector/overlays, or paths of files; later ones win
    :raises ProcessError: the program or the configuration is missing
    """
    folder = shipped("collector")
    files = [folder / "base.yaml"]
    files += [Path(name) if name.endswith(".yaml") else folder / "overlays" / f"{name}.yaml" for name in overlays]
    return [programs.find("otelcol-cc"), *filter(None, [verb]), _GATES, *(f"--config={file}" for file in files)]


class Collector:
    """A collector; :meth:`start` it again after it was stopped or killed, with the same ports and the same queues.

    :param env: its variables (docs/collector.md); ports that are not among them are free ones
    :param state: the folder of its queues
    """

    host = "127.0.0.1"

    def __init__(
        self, processes: Processes, name: str, overlays: Sequence[str], env: Mapping[str, str], state: Path
    ) -> None:
        self._processes = processes
        self._name = name
        self.state = state
        self.overlays = tuple(overlays)
        chosen = {variable: str(free_port()) for variable in _PORTS.values() if variable not in env}
        self.env = {**chosen, "OTEL_CC_COLLECTOR_STATE": str(state), **env}
        self.grpc_port, self.http_port, self.health_port, self.metrics_port = (
            int(self.env[variable]) for variable in _PORTS.values()
        )
        self._process: Process | None = None
        self.moved: list[queue_check.Moved] = []

    @property
    def process(self) -> Process:
        """The program that was started last."""
        assert self._process is not None
        return self._process

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT with http/protobuf."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        """Its own metrics."""
        return f"http://{self.host}:{self.metrics_port}/metrics"

    @property
    def health_url(self) -> str:
        """200 while it works."""
        return f"http://{self.host}:{self.health_port}/status"

    def start(self, *, wait: bool = True) -> Process:
        """Start it; damaged queue files are moved aside first and listed in ``moved``.

        :param wait: False returns before it is ready
        :raises ProcessError: it did not become ready
        """
        self.moved += queue_check.check(self.state)
        self._process = self._processes.start(
            self._name,
            command(overlays=self.overlays),
            env=environment(self.env),
            ready=lambda _process: self.healthy(),
            wait=False,
        )
        if wait:
            self._process.wait_ready(60, self._processes.check)
        return self._process

    def healthy(self) -> bool:
        """Whether it receives now; a store that is away does not change it."""
        try:
            with urllib.request.urlopen(self.health_url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> dict[str, float]:
        """Its own metrics now: name with labels -> value; labels in the order in which it writes them."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as answer:
            text = answer.read().decode()
        return {f"{name}{labels}": float(value) for name, labels, value in _SAMPLE.findall(text)}

    def total(self, name: str, containing: str = "") -> float:
        """The sum over all series of one of its metrics whose labels have ``containing`` in them; 0 without any."""
        return sum(
            value
            for series, value in self.metrics().items()
            if series.partition("{")[0] == name and containing in series
        )

    def queued(self, exporter: str = "") -> int:
        """Bytes that it has accepted and that no store has yet.

        :param exporter: e.g. "otlp_http/traces"; all of them by default
        """
        return int(self.total("otelcol_exporter_queue_size", exporter))


def start(
    processes: Processes,
    *,
    overlays: Sequence[str] = ("local",),
    env: Mapping[str, str] | None = None,
    state: Path | None = None,
    name: str = "collector",
    wait: bool = True,
) -> Collector:
    """Start a collector that ends with ``processes``; takes about 0.3 s.

    :param overlays: names in collector/overlays, or paths of files; later ones win
    :param env: variables of its configuration (docs/collector.md): addresses of the stores, fixed ports
    :param state: the folder of its queues; default: one in the folder of ``processes``
    :param wait: False returns before it is ready
    :raises ProcessError: it or its program is missing, or it did not become ready
    """
    folder = state or processes.folder / f"{name}-state"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    collector = Collector(processes, name, overlays, env or {}, folder)
    collector.start(wait=wait)
    return collector
