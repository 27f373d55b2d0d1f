"""The one HTTP endpoint: what it serves is decided at each scrape; prometheus_client writes the format that is asked for."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric

from otel_cc import guard
from otel_cc.metrics.pull import page
from otel_cc.metrics.pull.snapshot import Snapshot


class Collector:
    """What prometheus_client asks for the metrics of a page."""

    def __init__(self, scrape: Callable[[], Snapshot]) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        return page.families(self._scrape())


def application(scrape: Callable[[], Snapshot]) -> Callable[[Any, Any], Iterable[bytes]]:
    """A WSGI application that shows what ``scrape`` returns."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(scrape))
    serve = make_wsgi_app(registry)

    def serve_or_say(environ: Any, start_response: Any) -> Iterable[bytes]:
        try:
            found: Iterable[bytes] = serve(environ, start_response)
            return found
        except Exception:
            guard.warn_once("pull page", guard.FAILED, "a scrape", exc_info=True)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"The metrics could not be written; the log of the process says why.\n"]

    return serve_or_say


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds for a client that says nothing

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...], both: bool) -> None:
        self.address_family = family
        self._both = both
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without what upstream does on the way: a question to the name server, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if self._both else 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""


class Endpoint:
    """Listens at every address of a host name: ``localhost`` has two.

    :raises OSError: the port is taken, or the host has no address here
    """

    def __init__(self, host: str, port: int, scrape: Callable[[], Snapshot]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        self._servers: list[_Server] = []
        absent: OSError | None = None
        try:
            for family, address in addresses:
                try:
                    self._servers.append(_Server(family, address, both=len(addresses) == 1))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    absent = error
            if not self._servers:
                raise absent or OSError(errno.EADDRNOTAVAIL, "the host has no address", host)
        except BaseException:
            self.close()
            raise
        application_ = application(scrape)
        for server in self._servers:
            server.set_app(application_)
            server.socket.settimeout(0.5)
            threading.Thread(target=_accept, args=(server,), name="otel-cc-metrics", daemon=True).start()

    def close(self) -> None:
        """Give the port back; safe in a forked child, which has copies of the sockets."""
        for server in self._servers:
            server.socket.close()
        self._servers.clear()


def _accept(server: _Server) -> None:
    """Answer until the socket is closed; by plain accept(), which works under gevent and eventlet, too."""
    while server.socket.fileno() != -1:
        try:
            request, address = server.socket.accept()
        except TimeoutError:
            continue
        except OSError:
            if server.socket.fileno() == -1:
                return
            # No file numbers are left, or the client is gone already.
            threading.Event().wait(0.1)
            continue
        try:
            server.process_request(request, address)
        except Exception:
            request.close()
            guard.warn_once("pull request", guard.FAILED, "a scrape", exc_info=True)
