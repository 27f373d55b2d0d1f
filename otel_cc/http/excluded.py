"""Which requests are left out: their URLs match the standard variables, so they make no span and are not measured."""

from __future__ import annotations

import os
import re

from otel_cc import guard
from otel_cc.http.messages import Scope


def pattern() -> re.Pattern[str] | None:
    """The patterns of ``OTEL_PYTHON_FASTAPI_EXCLUDED_URLS``, or else of ``OTEL_PYTHON_EXCLUDED_URLS``."""
    variable = "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS"
    if variable not in os.environ:
        variable = "OTEL_PYTHON_EXCLUDED_URLS"
    patterns = [part.strip() for part in os.environ.get(variable, "").split(",") if part.strip()]
    if not patterns:
        return None
    try:
        return re.compile("|".join(patterns))
    except re.error as error:
        guard.warn_once(
            "excluded urls", "%s is not a list of regular expressions (%s): no URL is excluded.", variable, error
        )
        return None


def url(scope: Scope) -> str:
    """The URL of a request, as the patterns see it.

    :param scope: the ASGI scope
    """
    host = next((value for header, value in scope["headers"] if header == b"host"), b"").decode("latin-1")
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"
