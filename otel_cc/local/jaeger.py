"""A real Jaeger: takes traces over OTLP, keeps them on disk, and is asked for them by trace ID or by tag; on loopback."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from otel_cc.local import programs
from otel_cc.local.process import Process, Processes, answers, environment, free_port


@dataclass(frozen=True)
class Jaeger:
    """A running server.

    :param port: of its query API and its page
    :param otlp_port: of its OTLP/HTTP receiver
    :param otlp_grpc_port: of its OTLP/gRPC receiver
    :param metrics_port: where Prometheus scrapes it
    """

    process: Process
    port: int
    otlp_port: int
    otlp_grpc_port: int
    metrics_port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """The address of the query API, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def otlp(self) -> str:
        """What an OTLP/HTTP exporter takes as its endpoint."""
        return f"http://{self.host}:{self.otlp_port}"


def start(processes: Processes, *, name: str = "jaeger", port: int = 0, wait: bool = True) -> Jaeger:
    """Start a server that ends with ``processes``; takes about 0.5 s.

    :param port: of the query API; 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("jaeger")
    data = processes.folder / f"{name}-data"
    data.mkdir(mode=0o700, exist_ok=True)
    port = port or free_port()
    grpc_port, otlp_port, otlp_grpc_port, health_port, metrics_port = (free_port() for _ in range(5))
    config: dict[str, Any] = {
        "extensions": {
            "jaeger_storage": {
                "backends": {
                    "store": {
                        "badger": {
                            "ephemeral": False,
                            "consistency": False,
                            "directories": {"keys": f"{data}/keys", "values": f"{data}/values"},
                            "ttl": {"spans": "48h"},
                        }
                    }
                }
            },
            "jaeger_query": {
                "storage": {"traces": "store"},
                "http": {"endpoint": f"127.0.0.1:{port}"},
                "grpc": {"endpoint": f"127.0.0.1:{grpc_port}"},
            },
            "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"127.0.0.1:{health_port}"}},
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{otlp_grpc_port}"},
                    "http": {"endpoint": f"127.0.0.1:{otlp_port}"},
                }
            }
        },
        "processors": {"batch": {"timeout": "200ms"}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "store"}},
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
            "telemetry": {
                "resource": {"service.name": "jaeger"},
                "logs": {"level": "info", "encoding": "json"},
                "metrics": {
                    "level": "normal",
                    "readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics_port}}}}],
                },
            },
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["batch"],
                    "exporters": ["jaeger_storage_exporter"],
                }
            },
        },
    }
    file = data / "config.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(config, indent=2))
    process = processes.start(
        name,
        [binary, "--config", str(file)],
        env=environment(),
        cwd=data,
        ready=answers(health_port, "/status", '"status":"StatusOK"'),
        wait=False,
    )
    if wait:
        process.wait_ready(30, processes.check)
    return Jaeger(process, port, otlp_port, otlp_grpc_port, metrics_port)
