"""A real VictoriaLogs on loopback: the optional store of logs, asked for them by trace ID."""

from __future__ import annotations

from dataclasses import dataclass

from otel_cc.local import programs
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server, data_folder
from otel_cc.local.shipped import shipped


@dataclass(frozen=True)
class VictoriaLogs(Server):
    """A running server."""

    @property
    def otlp(self) -> str:
        """Where logs are sent to, over OTLP/HTTP."""
        return f"{self.url}/insert/opentelemetry/v1/logs"


def start(processes: Processes, *, name: str = "victoria-logs", port: int = 0, wait: bool = True) -> VictoriaLogs:
    """Start a server that ends with ``processes``; takes about 0.3 s.

    :param port: 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("victoria-logs")
    data = data_folder(processes, name)
    port = port or free_port()
    lines = shipped("collector/victoria-logs.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    process = processes.start(
        name,
        [binary, "-envflag.enable", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={data}"],
        env=environment(settings),
        cwd=data,
        ready=answers(port, "/health", "OK"),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return VictoriaLogs(process, port)
