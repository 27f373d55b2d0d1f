"""A real Alertmanager on loopback, with the configuration that is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from otel_cc.local import programs
from otel_cc.local.process import Process, Processes, answers, environment, free_port
from otel_cc.local.shipped import shipped


@dataclass(frozen=True)
class Alertmanager:
    """A running server.

    :param port: of its API and its page
    """

    process: Process
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{self.host}:{self.port}"


def start(processes: Processes, *, name: str = "alertmanager", port: int = 0, wait: bool = True) -> Alertmanager:
    """Start a server that ends with ``processes``; takes about 0.5 s.

    :param port: 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("alertmanager")
    data = processes.folder / f"{name}-data"
    data.mkdir(mode=0o700, exist_ok=True)
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
        process.wait_ready(30, processes.check)
    return Alertmanager(process, port)
