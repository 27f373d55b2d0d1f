"""A client of Prometheus' query API: what its series say, and which traces its exemplars name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from otel_cc.local.program import ProcessError


class QueryError(ProcessError):
    """Prometheus refused a query or cannot be reached; the text says why."""


@dataclass(frozen=True)
class Sample:
    """One series of an answer: its labels, and its value at the end of the time that was asked for."""

    labels: Mapping[str, str]
    value: float
    at: float


class Client:
    """``with Client(url) as prometheus: prometheus.instant("up")``

    :param url: base address, ``http://127.0.0.1:9090``
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # A proxy of the environment does not lead to this machine.
        self._client = httpx.Client(timeout=15, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def instant(self, query: str, at: float | None = None) -> list[Sample]:
        """What a query says at one time.

        :param at: Unix time; default: now
        :raises QueryError: it is refused
        """
        found = self._get("query", {"query": query} | ({} if at is None else {"time": at}))["result"]
        return [Sample(one["metric"], float(one["value"][1]), float(one["value"][0])) for one in found]

    def exemplars(self, query: str, start: float, end: float) -> list[dict[str, Any]]:
        """The exemplars of the series of a query, each with ``labels`` (trace_id, span_id), ``value``, ``timestamp``.

        :raises QueryError: it is refused
        """
        found = self._get("query_exemplars", {"query": query, "start": start, "end": end})
        return [exemplar for one in found for exemplar in one["exemplars"]]

    def series(self, match: str, start: float, end: float) -> list[dict[str, str]]:
        """The labels of all series that had a sample in that time; the name is in ``__name__``.

        :raises QueryError: it is refused
        """
        found: list[dict[str, str]] = self._get("series", {"match[]": match, "start": start, "end": end})
        return found

    def totals(self, query: str, label: str) -> dict[str, int]:
        """The values of a query by one label of its series.

        :raises QueryError: it is refused
        """
        totals: Counter[str] = Counter()
        for sample in self.instant(f"sum by ({label}) ({query})"):
            totals[sample.labels.get(label, "")] += int(sample.value)
        return dict(sorted(totals.items()))

    def _get(self, path: str, params: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.get(f"{self.url}/api/v1/{path}", params=dict(params))
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise QueryError(f"Prometheus at {self.url} cannot be asked: {error}.") from error
        if body.get("status") != "success":
            raise QueryError(f"Prometheus refused {params}: {body.get('error')}.")
        return body["data"]
