"""A client of Jaeger's query API, which finds traces by trace ID and by request ID."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx

from otel_cc.context import ATTRIBUTE
from otel_cc.local import otlp_json
from otel_cc.local.lookup import Lookup
from otel_cc.local.signals import Span
from otel_cc.local.traces import Trace, group
from otel_cc.local.tree import printable

# So many traces are asked for, of each service, when several have the same request ID.
LIMIT = 20

# Seconds that one answer may take.
_TIMEOUT = 15.0

_DAY = 86400.0


class Unavailable(Exception):
    """Jaeger cannot be asked; the text says why and what to do."""


class Client:
    """``with Client(url) as jaeger: jaeger.find(lookup.parse("order-42"))``

    By trace ID it asks the stable API, ``/api/v3``. By request ID it asks the older search of each service, because the
    HTTP gateway of v3 ignores attributes and answers with every trace.

    :param url: base address, ``http://127.0.0.1:16686``; a name and password in it are sent as basic auth
    :raises Unavailable: it is no address
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = httpx.URL(url.strip())
        except (httpx.InvalidURL, UnicodeError):
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise Unavailable(
                "the address of Jaeger must begin with http:// or https:// (OTEL_CC_JAEGER_URL, --jaeger)."
            )
        self.url = str(parsed.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        auth = (parsed.username, parsed.password) if parsed.userinfo else None
        # A proxy of the environment does not lead to this machine.
        self._client = httpx.Client(auth=auth, timeout=_TIMEOUT, trust_env=not _is_loopback(parsed.host))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.close()

    def find(
        self, wanted: Lookup, *, days: float = 7, progress: Callable[[str], None] = lambda _text: None
    ) -> list[Trace]:
        """The traces that an ID stands for, oldest first.

        :param days: how far back to search by request ID
        :raises Unavailable: Jaeger does not answer, or something else does
        """
        if wanted.trace_id:
            progress(f"asking {self.url} for the trace {wanted.trace_id}")
            if spans := self.trace(wanted.trace_id):
                return group(spans)
        if wanted.request_id is None:
            return []
        found: set[str] = set()
        for service in self.services():
            progress(f"searching the spans of {printable(service)}")
            found |= self._search(service, wanted.request_id, days)
        traces = group(span for trace_id in found for span in self.trace(trace_id))
        # Whatever the search of another store does with a tag, only what has the ID is shown.
        return [trace for trace in traces if wanted.request_id in trace.request_ids]

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of one trace; none when Jaeger does not know it."""
        answer = self._get(f"/api/v3/traces/{trace_id}", missing_is_fine=True)
        try:
            return otlp_json.decode(answer.get("result") or {}) if answer else []
        except (otlp_json.Unreadable, AttributeError) as error:
            raise Unavailable(f"Jaeger at {self.url} answered with a trace that cannot be read: {error}.") from None

    def services(self) -> list[str]:
        """The services that Jaeger has spans of."""
        return [str(service) for service in self._data("/api/services")]

    def _search(self, service: str, request_id: str, days: float) -> set[str]:
        """The IDs of the newest traces of a service with this request ID."""
        now = time.time()
        params = {
            "service": service,
            "tags": json.dumps({ATTRIBUTE: request_id}),
            # Microseconds. The clock of the machine that made the span may be ahead of ours.
            "start": str(int((now - days * _DAY) * 1e6)),
            "end": str(int((now + _DAY) * 1e6)),
            "limit": str(LIMIT),
        }
        ids = {str(trace.get("traceID", "")) for trace in self._data("/api/traces", params) if isinstance(trace, dict)}
        return {trace_id for trace_id in ids if re.fullmatch("[0-9a-f]{1,32}", trace_id)}

    def _data(self, path: str, params: dict[str, str] | None = None) -> list[Any]:
        data = self._get(path, params).get("data") or []
        return data if isinstance(data, list) else []

    def _get(self, path: str, params: dict[str, str] | None = None, *, missing_is_fine: bool = False) -> dict[str, Any]:
        try:
            answer = self._client.get(self.url + path, params=params)
        except httpx.TimeoutException:
            raise Unavailable(f"Jaeger at {self.url} did not answer within {_TIMEOUT:g} s.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            why = str(error) or type(error).__name__
            raise Unavailable(
                f"Jaeger at {self.url} cannot be reached ({why}): start it, or set OTEL_CC_JAEGER_URL (or --jaeger)."
            ) from None
        if answer.status_code == 404 and missing_is_fine:
            return {}
        if answer.status_code in (401, 403):
            raise Unavailable(
                f"{self.url} wants a login ({answer.status_code}): put it into OTEL_CC_JAEGER_URL, as "
                "https://name:password@host."
            )
        if answer.status_code not in (200, 404):
            raise Unavailable(f"Jaeger at {self.url} answered {path} with status {answer.status_code}.")
        try:
            found = answer.json() if answer.status_code == 200 else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(
                f"what answers at {self.url} has no {path} of Jaeger's API: the address must be that of a Jaeger 2.13 "
                "to 2.20, without /api."
            )
        return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
