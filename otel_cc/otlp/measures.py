"""What an exporter tells of itself: what the backend got, what it did not, and how long that took.

The names are those of https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from itertools import count
from typing import Any, Literal
from urllib.parse import urlsplit

from otel_cc import metrics
from otel_cc.error_type import type_name
from otel_cc.metrics.catalogue import OTHER

# The backend's status, where there was one, and the error.
Failure = tuple["int | None", "BaseException | None"]

_numbers: defaultdict[str, count[int]] = defaultdict(count)
_KINDS = {"OTLPSpanExporter": "span", "OTLPMetricExporter": "metric"}


class ExportMeasures:
    """The instruments of one exporter.

    :param exporter: the SDK's, or anybody's
    :param item: what it exports, as the conventions call it
    :ivar labels: that say which exporter it is
    """

    def __init__(self, exporter: object, item: Literal["span", "metric_data_point"]) -> None:
        self.labels = {**component(_type(exporter)), **_server(exporter)}
        self._exported = metrics.counter(f"otel.sdk.exporter.{item}.exported")
        self._exported.add(0, self.labels)
        self._duration = metrics.histogram("otel.sdk.exporter.operation.duration")
        self._labels = lru_cache(maxsize=256)(self._make_labels)

    def ended(self, items: int, seconds: float, failure: Failure | None) -> None:
        """An export has ended.

        :param items: how many it had
        :param seconds: how long it took
        :param failure: why the backend does not have them, or None
        """
        status, kind = None, ""
        if failure is not None:
            status, error = failure
            kind = str(status) if status is not None else OTHER if error is None else type_name(type(error))
        exported, took = self._labels(metrics.bounded("error.type", kind) if kind else "", status)
        self._exported.add(items, exported)
        self._duration.record_plain(seconds, took)

    def _make_labels(self, failure: str, status: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        exported = {**self.labels, **({"error.type": failure} if failure else {})}
        return exported, {**exported, **({} if status is None else {"http.response.status_code": status})}


def measures_itself(exporter: object) -> bool:
    """Whether the user switched the SDK's own exporter metrics on: they are recorded in the official export only."""
    return not type(getattr(exporter, "_metrics", None)).__name__.lower().startswith(("noop", "none"))


def component(kind: str) -> dict[str, Any]:
    """The labels of a part of the SDK, of which a process may have several."""
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{next(_numbers[kind])}"}


def _type(exporter: object) -> str:
    """The well-known name of the official exporters; of others that of their class, as the conventions ask."""
    known = getattr(exporter, "component_type", None)
    if isinstance(known, str):
        return known
    cls = type(exporter)
    if cls.__name__ in _KINDS:
        for transport in ("http", "grpc"):
            if f".proto.{transport}" in cls.__module__:
                return f"otlp_{transport}_{_KINDS[cls.__name__]}_exporter"
    return f"{cls.__module__}.{cls.__qualname__}"


def _server(exporter: object) -> dict[str, Any]:
    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str):
        return {}
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    found: dict[str, Any] = {"server.address": parts.hostname} if parts.hostname else {}
    return found if port is None else {**found, "server.port": port}
