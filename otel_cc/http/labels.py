"""The labels of what is measured of requests: one dict for each combination, and no value that a client can choose."""

from __future__ import annotations

from functools import cache, lru_cache

from otel_cc.metrics import bounded
from otel_cc.metrics.catalogue import OTHER, STATUSES

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method, with QUERY as FastAPI has it
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})

Labels = dict[str, str | int]


def method(given: str) -> str:
    """A method of HTTP, or ``_OTHER``."""
    return given if given in _METHODS else OTHER


def scheme(given: str) -> str:
    """A scheme, which a proxy may have written, or ``_OTHER``."""
    return given if given in _SCHEMES else OTHER


def version(given: str | None) -> str | None:
    """A version of HTTP, or ``_OTHER``; None where the server does not tell."""
    return given if given in _VERSIONS else (OTHER if given else None)


@lru_cache(maxsize=4096)
def request(
    method: str, scheme: str, version: str | None, route: str | None, status: int | None, error_type: str | None
) -> Labels:
    """The labels of a request that ended."""
    labels: Labels = {"http.request.method": method, "url.scheme": scheme}
    if version is not None:
        labels["network.protocol.version"] = version
    if route is not None:
        labels["http.route"] = bounded("http.route", route)
    if status is not None and status in STATUSES:
        labels["http.response.status_code"] = status
    if error_type is not None:
        labels["error.type"] = bounded("error.type", error_type)
    return labels


@cache
def active(method: str, scheme: str) -> Labels:
    """The labels of a request that is open."""
    return {"http.request.method": method, "url.scheme": scheme}


@lru_cache(maxsize=4096)
def disconnect(method: str, route: str | None) -> Labels:
    """The labels of a request whose client went away."""
    labels: Labels = {"http.request.method": method}
    if route is not None:
        labels["http.route"] = bounded("http.route", route)
    return labels


@cache
def open_connection(scheme: str) -> Labels:
    """The labels of a WebSocket connection that is open."""
    return {"url.scheme": scheme}


@lru_cache(maxsize=4096)
def connection(scheme: str, route: str | None, close_code: str | None, error_type: str | None) -> Labels:
    """The labels of a WebSocket connection that ended."""
    labels: Labels = {"url.scheme": scheme}
    if route is not None:
        labels["http.route"] = bounded("http.route", route)
    if close_code is not None:
        labels["websocket.close_code"] = close_code
    if error_type is not None:
        labels["error.type"] = bounded("error.type", error_type)
    return labels
