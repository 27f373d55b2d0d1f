"""Request and response headers as span attributes, where the user asks for them with the standard variables.

What contrib does right is called, not copied: names, patterns and sanitising are those of opentelemetry-util-http and of
the ASGI instrumentation, which the extra ``fastapi`` installs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span

from otel_cc import guard
from otel_cc.http.messages import Message, Scope

_REQUEST = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST"
_RESPONSE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE"
_SANITIZE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS"


class Capture:
    """Collects the headers that were asked for.

    :raises ImportError: the extra ``fastapi`` is not installed
    """

    def __init__(self) -> None:
        from opentelemetry.instrumentation.asgi import collect_custom_headers_attributes
        from opentelemetry.util.http import (
            SanitizeValue,
            get_custom_headers,
            normalise_request_header_name,
            normalise_response_header_name,
        )

        self._collect = collect_custom_headers_attributes
        self._sanitize = SanitizeValue(get_custom_headers(_SANITIZE))
        self._request = (get_custom_headers(_REQUEST), normalise_request_header_name)
        self._response = (get_custom_headers(_RESPONSE), normalise_response_header_name)

    def request(self, scope: Scope, attributes: dict[str, Any]) -> None:
        """Add the request headers to the attributes that the span is created with."""
        if self._request[0]:
            attributes.update(self._clean(scope, self._request))

    def response(self, message: Message, span: Span) -> None:
        """Add the response headers to the span."""
        if self._response[0]:
            span.set_attributes(self._clean(message, self._response))

    def _clean(self, carrier: Scope | Message, kind: tuple[Any, Any]) -> Mapping[str, Any]:
        found = self._collect(dict(carrier), self._sanitize, *kind)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def from_environment() -> Capture | None:
    """The capture that the environment asks for, or None."""
    if not os.environ.get(_REQUEST) and not os.environ.get(_RESPONSE):
        return None
    for variable in (_REQUEST, _RESPONSE, _SANITIZE):
        try:
            # As upstream joins them, which is told of a wrong one only by the first request.
            re.compile("|".join(part.strip() for part in os.environ.get(variable, "").split(",")))
        except re.error as error:
            guard.warn_once(
                "capture", "%s is not a list of regular expressions (%s): no header is captured.", variable, error
            )
            return None
    try:
        return Capture()
    except ImportError:
        guard.warn_once("capture", "%s needs more: pip install 'otel-cc[fastapi]'.", _REQUEST)
        return None
