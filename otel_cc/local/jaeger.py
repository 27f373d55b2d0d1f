"""A real Jaeger: takes traces over OTLP, keeps them on disk, and is asked for them by trace ID or by tag; on loopback."""

from __future__ import annotations

from dataclasses import dataclass

from otel_cc.local import programs
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server, data_folder
from otel_cc.local.shipped import shipped


@dataclass(frozen=True)
class Jaeger(Server):
    """A running server.

    :param port: of its query API and its page
    :param otlp_port: of its OTLP/HTTP receiver
    :param metrics_port: where Prometheus scrapes it
    :param health_port: of its health check
    """

    otlp_port: int
    metrics_port: int
    health_port: int

    @property
    def otlp(self) -> str:
        """What an OTLP/HTTP exporter takes as its endpoint."""
        return f"http://{self.host}:{self.otlp_port}"


def start(
    processes: Processes, *, name: str = "jaeger", port: int = 0, otlp_port: int = 0, wait: bool = True
) -> Jaeger:
    """Start a server that ends with ``processes``; takes about 0.5 s.

    :param port: of the query API; 0 takes a free one
    :param otlp_port: of its OTLP/HTTP receiver; 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("jaeger")
    data = data_folder(processes, name)
    port = port or free_port()
    otlp_port = otlp_port or free_port()
    grpc_port, health_port, metrics_port = (free_port() for _ in range(3))
    settings = {
        "OTEL_CC_JAEGER_STATE": str(data),
        "OTEL_CC_JAEGER_PORT": str(port),
        "OTEL_CC_JAEGER_GRPC_PORT": str(grpc_port),
        "OTEL_CC_JAEGER_OTLP_PORT": str(otlp_port),
        "OTEL_CC_JAEGER_HEALTH_PORT": str(health_port),
        "OTEL_CC_JAEGER_METRICS_PORT": str(metrics_port),
    }
    process = processes.start(
        name,
        [binary, f"--config={shipped('collector/jaeger.yaml')}"],
        env=environment(settings),
        cwd=data,
        ready=answers(health_port, "/status", '"status":"StatusOK"'),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return Jaeger(process, port, otlp_port, metrics_port, health_port)
