"""What arrived: the last values of every series of every process, and their totals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cc.local.signals import Point, decode_metrics
from otel_cc.local.sink import Export

Series = tuple[str, tuple[tuple[str, Any], ...]]
Labels = tuple[Any, ...]


class Exported:
    """The metrics of some exports.

    :ivar last: by name, then by process and attributes: the point that came last
    :ivar spans: how many came, by process
    :ivar requests: in how many requests they did, by process
    :ivar sizes: how many points of metrics came in each request, by process
    :ivar falls: series whose cumulative value was smaller than before
    """

    def __init__(self, exports: Iterable[Export]) -> None:
        self.last: dict[str, dict[Series, Point]] = defaultdict(dict)
        self.falls: list[tuple[str, Series]] = []
        self.spans: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.sizes: dict[str, list[int]] = defaultdict(list)
        for export in exports:
            if export.path == "/v1/traces":
                request = ExportTraceServiceRequest.FromString(export.body)
                for some in request.resource_spans:
                    who = next(a.value.string_value for a in some.resource.attributes if a.key == "service.instance.id")
                    self.requests[who] += 1
                    self.spans[who] += sum(len(scope.spans) for scope in some.scope_spans)
            elif export.path == "/v1/metrics":
                points = list(decode_metrics(export.body))
                self.sizes[process(points[0])].append(len(points))
                for point in points:
                    self._add(point)

    def _add(self, point: Point) -> None:
        series = (process(point), tuple(sorted(point.attributes.items())))
        before = self.last[point.name].get(series)
        cumulative = point.kind == "histogram" or point.monotonic
        if before is not None and cumulative and (number(point) < number(before) or point.start != before.start):
            self.falls.append((point.name, series))
        self.last[point.name][series] = point

    def points(self, name: str, where: Callable[[Point], bool] = lambda _: True) -> list[Point]:
        return [point for point in self.last.get(name, {}).values() if where(point)]

    def totals(
        self, name: str, *labels: str, where: Callable[[Point], bool] = lambda _: True, sums: bool = False
    ) -> dict[Labels, float]:
        """The values of a counter, or the counts of a histogram, over all processes.

        :param labels: attributes to keep; a missing one is ""
        :param sums: of a histogram: the sum of its values instead
        """
        totals: Counter[Labels] = Counter()
        for point in self.points(name, where):
            key = tuple(point.attributes.get(label, "") for label in labels)
            totals[key] += point.value if sums else number(point)  # type: ignore[assignment]
        return {key: value for key, value in totals.items() if value}


def process(point: Point) -> str:
    return str(point.resource.get("service.instance.id"))


def number(point: Point) -> float:
    return point.count if point.kind == "histogram" else point.value


def difference(
    exported: Mapping[Labels, float],
    truth: Mapping[Labels, float],
    bounds: Mapping[Labels, tuple[float, float]] | None = None,
) -> dict[Labels, str]:
    """What does not agree, for an assertion that shows all of it at once.

    :param bounds: least and greatest value, where the truth cannot be known exactly
    """
    bounds = bounds or {}
    found = {}
    for key in sorted({*exported, *truth, *bounds}, key=repr):
        least, most = bounds.get(key, (truth.get(key, 0),) * 2)
        value = exported.get(key, 0)
        if not least <= value <= most:
            found[key] = f"exported {value}, true {least if least == most else f'{least} to {most}'}"
    return found
