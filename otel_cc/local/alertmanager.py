"""A real Alertmanager on loopback, with the configuration that is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from otel_cc.local import programs
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server, data_folder
from otel_cc.local.shipped import shipped


@dataclass(frozen=True)
class Alertmanager(Server):
    """A running server."""


def start(processes: Processes, *, name: str = "alertmanager", port: int = 0, wait: bool = True) -> Alertmanager:
    """Start a server that ends with ``processes``; takes about 0.5 s.

    :param port: 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("alertmanager")
    data = data_folder(processes, name)
    port = port or free_port()
    process = processes.start(
        name,
        [
            binary,
            f"--config.file={shipped('collector/alertmanager.yaml')}",
            f"--storage.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            # Without an address it looks for no other Alertmanager, and listens for none.
            "--cluster.listen-address=",
        ],
        env=environment(),
        cwd=data,
        ready=answers(port, "/-/ready"),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return Alertmanager(process, port)
