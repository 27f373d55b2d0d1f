"""An incoming request becomes a correlation: which IDs it brought, whether its client is trusted, what it is called.

Whoever made the request ID, there is one for the whole request: what the application reads from the request headers is
the ID that ends up in the response, the logs and the spans.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from otel_cc import context, request_id, settings
from otel_cc.http import queue_time, route
from otel_cc.http.messages import Scope

Headers = list[tuple[bytes, bytes]]

KEY = context.SCOPE_KEY

_QUEUED, _QUEUED_TOO = queue_time.HEADERS


class Request(context.Correlation):
    """The correlation of an HTTP request or WebSocket connection.

    :param scope: its ASGI scope
    :param headers: that it came with; of two with the same name the first one
    :ivar error: the exception that was turned into its response, or that left the application
    :ivar queued: when it came to the proxy in front, as that wrote it; None where nobody who is trusted tells
    """

    __slots__ = ("error", "headers", "queued", "scope")

    def __init__(self, request_id: str, trace_id: int, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        super().__init__(request_id, trace_id)
        self.scope = scope
        self.headers = headers
        self.error: BaseException | None = None
        self.queued: bytes | None = None

    def tags(self) -> Mapping[str, str]:
        return _tags(route.template(self.scope))


@lru_cache(maxsize=1024)
def _tags(template: str | None) -> Mapping[str, str]:
    from fastapi import __version__

    # The framework and its version, as the SQL comment shows them.
    tags = {"framework": f"fastapi:{__version__}"}
    return tags if template is None else {**tags, "route": template}


class Reader:
    """Reads requests according to the settings; made once per process."""

    def __init__(self) -> None:
        options = settings.get()
        self._header = options.request_id_header.lower().encode()
        self._trust = options.trust_inbound
        # Every header that any configured propagator reads; a request without them needs no propagator at all.
        fields = {field.lower().encode() for field in propagate.get_global_textmap().fields}
        self._trace_headers = frozenset(fields - {self._header})
        self._trusted = lru_cache(maxsize=1024)(self._in_networks)

    def read(self, scope: Scope, ambient: Context) -> tuple[Request, Context]:
        """The correlation of a request, and the context with the remote parent that it brought, if any.

        The request headers in ``scope`` are completed with the ID, or replaced where they are not trusted.

        :param scope: the ASGI scope
        :param ambient: the context in which the server calls
        """
        headers = scope["headers"]
        if type(headers) is not list:
            headers = list(headers)
        values = dict(headers[::-1])  # of two headers the first one counts
        incoming = queued = None
        parent = ambient
        if self._trust is True or (self._trust is not False and self._trusted(scope.get("client"))):
            raw = values.get(self._header)
            if raw is not None:
                incoming = request_id.accept(raw)
            queued = values.get(_QUEUED) or values.get(_QUEUED_TOO)
            if queued is not None and self._trust is True and not queue_time.from_proxy(scope):
                # Everybody's IDs are taken, but a number that adds up only from where a proxy can be.
                queued = None
            if not self._trace_headers.isdisjoint(values):
                parent = propagate.extract(headers, ambient, _GETTER)
        else:
            headers = [pair for pair in headers if pair[0] not in self._trace_headers]
        span_context = trace.get_current_span(parent).get_span_context()
        if span_context.is_valid:
            trace_id = span_context.trace_id
        else:
            trace_id = (incoming and request_id.trace_id_of(incoming)) or request_id.new_trace_id()
        if incoming is None:
            incoming = request_id.from_trace_id(trace_id)
            headers = [pair for pair in headers if pair[0] != self._header]
            headers.append((self._header, incoming.encode()))
            scope["headers"] = headers
        correlation = Request(incoming, trace_id, scope, values)
        correlation.queued = queued
        scope[KEY] = correlation
        return correlation, parent

    def _in_networks(self, client: tuple[str, int] | None) -> bool:
        if client is None or isinstance(self._trust, bool):
            return False
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        return any(address in network for network in self._trust)


class _HeadersGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        name = key.lower().encode()
        # Latin-1 cannot fail, and no propagator accepts what is not ASCII.
        return [value.decode("latin-1") for header, value in carrier if header == name] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [header.decode("latin-1") for header, _ in carrier]


_GETTER = _HeadersGetter()


def without(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> Headers:
    """Headers without those of one name, in lower case; header names of an application may have any case."""
    return [pair for pair in headers if pair[0].lower() != name]
