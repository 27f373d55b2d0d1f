"""What a started server is to whoever uses it: a process, and an address on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from otel_cc.local.process import Process, Processes

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A running server.

    :param port: of its API, or of its page
    """

    process: Process
    port: int
    host: ClassVar[str] = HOST
    path: ClassVar[str] = ""

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{self.host}:{self.port}{self.path}"


def data_folder(processes: Processes, name: str) -> Path:
    """Where a server keeps its data: removed with the folder of ``processes``.

    :param name: of the server
    """
    data = processes.folder / f"{name}-data"
    data.mkdir(mode=0o700, exist_ok=True)
    return data
