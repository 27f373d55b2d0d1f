"""HTTP for the official client, by Python's own http.client: what a plain endpoint needs, and no more to load.

``requests`` and urllib3 are a fifth of what telemetry adds to a start, most of it for TLS, proxies and pools of many hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from urllib.parse import urlsplit

from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport


class Result(BaseHTTPResult):
    """What came back.

    :param error: why nothing did
    """

    __slots__ = ("_body", "_headers")

    def __init__(self, error: Exception | None, response: HTTPResponse | None = None, body: bytes = b"") -> None:
        status, reason = (None, None) if response is None else (response.status, response.reason)
        super().__init__(status, reason, error)
        # The base is a frozen dataclass.
        object.__setattr__(self, "_body", body)
        object.__setattr__(self, "_headers", HTTPMessage() if response is None else response.headers)

    def content(self) -> bytes:
        return self._body  # type: ignore[attr-defined,no-any-return]  # set above

    def headers(self) -> Mapping[str, str]:
        # It ignores case, and has what a mapping has but for its type.
        return self._headers  # type: ignore[attr-defined,no-any-return]  # set above


class Redirected(Exception):
    """The endpoint is elsewhere; the official client would take this answer for success and lose the data."""


class Transport(BaseHTTPTransport):
    """Requests to one endpoint, over connections that are kept open; any thread may send."""

    def __init__(self) -> None:
        # Taken out while in use, so that each thread has its own; list.pop and list.append are atomic.
        self._idle: list[HTTPConnection] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        connection: HTTPConnection | None = None
        try:
            parts = urlsplit(url)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection = self._connected(parts.hostname or "", parts.port or 80, timeout)
            connection.request(method, target, data, headers or {})
            response = connection.getresponse()
            body = response.read()
            if 300 <= response.status < 400:
                where = response.headers.get("Location")
                raise Redirected(f"{url} answers {response.status} and names {where}: set the endpoint to that.")
        except Exception as error:
            if connection is not None:
                connection.close()
            # The others are as old, so that the next try starts with a new one.
            self.close()
            return Result(error)
        self._idle.append(connection)
        return Result(None, response, body)

    def is_connection_error(self, exception: Exception | None) -> bool:
        # A request that waited in vain for its answer may have arrived: sending it again would double it.
        return isinstance(exception, (OSError, HTTPException)) and not isinstance(exception, TimeoutError)

    def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connected(self, host: str, port: int, timeout: float | None) -> HTTPConnection:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = HTTPConnection(host, port)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
            return connection
        try:
            connection.connect()
        except TimeoutError as error:
            # Nothing was sent yet.
            raise ConnectionError(f"no connection to {host}:{port} within {timeout} s") from error
        return connection
