"""A real redis_exporter on loopback: the broker's numbers for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from otel_cc.local import programs
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server
from otel_cc.local.valkey import Valkey


@dataclass(frozen=True)
class RedisExporter(Server):
    """A running exporter; its page has the metrics."""

    path: ClassVar[str] = "/metrics"


def start(
    processes: Processes, broker: Valkey, *, name: str = "redis_exporter", port: int = 0, wait: bool = True
) -> RedisExporter:
    """Start an exporter that ends with ``processes``; takes about 0.1 s.

    :param broker: what it looks at
    :param port: 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("redis_exporter")
    port = port or free_port()
    process = processes.start(
        name,
        [binary, f"--web.listen-address=127.0.0.1:{port}", f"--redis.addr=redis://{broker.host}:{broker.port}"],
        env=environment(),
        cwd=processes.folder,
        ready=answers(port, "/metrics", "redis_up 1"),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return RedisExporter(process, port)
