"""OpenTelemetry's own variables with which the SDK would fail as a whole: a wrong value is taken out before it is read.

A wrong limit lets the very import of the SDK fail, and a wrong interval costs all metrics.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, MutableMapping

logger = logging.getLogger("otel_cc")


def _is_limit(text: str) -> bool:
    # Of an empty one the SDK makes no limit.
    return not text.strip() or int(text) >= 0


def _is_interval(text: str) -> bool:
    return not text.strip() or 0 < float(text) / 1000 <= threading.TIMEOUT_MAX


_LIMIT = "not a whole number of 0 or more", _is_limit
_RULES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "OTEL_METRIC_EXPORT_INTERVAL": ("not a positive number of milliseconds", _is_interval),
    # Those of https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ that the SDK knows.
    "OTEL_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": _LIMIT,
    "OTEL_SPAN_LINK_COUNT_LIMIT": _LIMIT,
}


def correct(environ: MutableMapping[str, str]) -> None:
    """Take wrong values out, so that the defaults hold, and say so; children find nothing to say any more.

    :param environ: of this process
    """
    for name, (wrong, is_right) in _RULES.items():
        if name not in environ:
            continue
        try:
            right = is_right(environ[name])
        except ValueError:
            right = False
        if not right:
            logger.error("%s=%r is %s, so its default holds: correct it.", name, environ[name], wrong)
            del environ[name]
