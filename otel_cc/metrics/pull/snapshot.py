"""What one process has counted, as data: it goes to the siblings as JSON, and what comes from them is believed nothing."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

VERSION = 1

Labels = tuple[tuple[str, str], ...]

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,499}", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,499}", re.ASCII)


@dataclass(frozen=True)
class Number:
    """A value of a counter or gauge.

    :param new: nobody has seen this series yet: it must be shown as 0 first (see counters.py)
    """

    value: float
    new: bool = False


@dataclass(frozen=True)
class Exemplar:
    """One measurement with the span in which it was made.

    :param at: Unix time in seconds
    """

    value: float
    at: float
    trace_id: str
    span_id: str


@dataclass(frozen=True)
class Distribution:
    """A histogram's buckets.

    :param bounds: upper bounds; one more bucket, without a bound, comes after them
    :param counts: how many measurements are in each bucket alone
    :param exemplars: at most one in each bucket
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar, ...] = ()


@dataclass
class Family:
    """A metric with all its series.

    :param name: as Prometheus knows it, without ``_total``
    :param kind: "counter", "gauge" or "histogram"
    :param merged: how one value is made of those of all processes: "sum" or "max"
    """

    name: str
    kind: str
    help: str = ""
    unit: str = ""
    merged: str = "sum"
    series: dict[Labels, Any] = field(default_factory=dict)


@dataclass
class Snapshot:
    """All metrics of one process, or of several together.

    :param run: which start of the service it belongs to
    :param target: what describes the service
    :param folded: the members whose files are part of it already
    """

    run: str = ""
    target: dict[str, str] = field(default_factory=dict)
    families: dict[tuple[str, str], Family] = field(default_factory=dict)
    folded: tuple[str, ...] = ()

    def lasting(self) -> Snapshot:
        """What remains of a process that has ended: its counters and histograms."""
        kept = {key: family for key, family in self.families.items() if family.kind != "gauge"}
        return Snapshot(self.run, {}, kept, self.folded)

    @property
    def news(self) -> bool:
        """Whether there is a series that nobody has seen."""
        return any(
            getattr(point, "new", False) for family in self.families.values() for point in family.series.values()
        )

    def seen(self) -> Snapshot:
        """The same after it was shown."""
        families = {
            key: replace(family, series={labels: _seen(point) for labels, point in family.series.items()})
            for key, family in self.families.items()
        }
        return replace(self, families=families)


def _seen(point: Any) -> Any:
    return Number(point.value) if isinstance(point, Number) and point.new else point


def bucket_of(bounds: tuple[float, ...], value: float) -> int:
    """The number of the bucket that a value is in."""
    return bisect_left(bounds, value)


def clean(text: str) -> str:
    """The text without what UTF-8 cannot say: one such label would cost the whole page."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def encode(snapshot: Snapshot) -> bytes:
    """As JSON."""
    families = [
        {
            "name": family.name,
            "kind": family.kind,
            "help": family.help,
            "unit": family.unit,
            "merged": family.merged,
            "series": [[dict(labels), _encoded(point)] for labels, point in family.series.items()],
        }
        for family in snapshot.families.values()
    ]
    document = {
        "version": VERSION,
        "run": snapshot.run,
        "target": snapshot.target,
        "folded": snapshot.folded,
        "families": families,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _encoded(point: Number | Distribution) -> list[Any]:
    if isinstance(point, Number):
        return [point.value, point.new]
    exemplars = [[e.value, e.at, e.trace_id, e.span_id] for e in point.exemplars]
    return [point.bounds, point.counts, point.sum, exemplars]


def decode(data: bytes) -> Snapshot:
    """The snapshot in a JSON text that anybody could have written.

    :raises ValueError: it is not one
    """
    try:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']!r} is not {VERSION}")
        families = {}
        for item in document["families"]:
            family = _family(item)
            families[family.name, family.kind] = family
        target = {_matching(_LABEL, name): clean(_typed(value, str)) for name, value in document["target"].items()}
        folded = tuple(_typed(name, str) for name in document["folded"])
        return Snapshot(_typed(document["run"], str), target, families, folded)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _family(item: dict[str, Any]) -> Family:
    kind = _one_of(item["kind"], "counter", "gauge", "histogram")
    unit = _typed(item["unit"], str)
    name = _matching(_METRIC, item["name"])
    if unit and not name.endswith(f"_{unit}"):
        raise ValueError(f"{name} does not end in {unit}")
    series = {}
    for labels, point in item["series"]:
        key = tuple(sorted((_matching(_LABEL, label), clean(_typed(value, str))) for label, value in labels.items()))
        series[key] = _distribution(*point) if kind == "histogram" else _number(kind, *point)
    return Family(name, kind, clean(_typed(item["help"], str)), unit, _one_of(item["merged"], "sum", "max"), series)


def _number(kind: str, value: Any, new: Any) -> Number:
    value = _real(value)
    if kind == "counter" and not 0 <= value < float("inf"):
        raise ValueError(f"{value} counts nothing")
    return Number(value, _typed(new, bool))


def _distribution(bounds: Any, counts: Any, total: Any, exemplars: Any) -> Distribution:
    bounds = tuple(_real(bound) for bound in _typed(bounds, list))
    counts = tuple(_typed(count, int) for count in _typed(counts, list))
    if len(counts) != len(bounds) + 1 or any(not 0 <= count < 2**63 for count in counts):
        raise ValueError("these are no buckets")
    if any(not low < high for low, high in zip(bounds, (*bounds[1:], float("inf")), strict=False)):
        raise ValueError("the bounds do not rise")
    return Distribution(bounds, counts, _real(total), tuple(_exemplars(bounds, exemplars)))


def _exemplars(bounds: tuple[float, ...], items: Any) -> Iterable[Exemplar]:
    found = {}
    for value, at, trace_id, span_id in items:
        ids = (_matching(_HEX, trace_id), _matching(_HEX, span_id))
        found[bucket_of(bounds, _real(value))] = Exemplar(_real(value), _real(at), *ids)
    return found.values()


_HEX = re.compile(r"[0-9a-f]{0,32}", re.ASCII)


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    float(value)
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{str(value)[:50]!r} is no {kind.__name__}")
    return value


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if type(text) is not str or not pattern.fullmatch(text):
        raise ValueError(f"{str(text)[:50]!r} is no name")
    return text


def _one_of(word: Any, *words: str) -> str:
    if word not in words:
        raise ValueError(f"{str(word)[:50]!r} is none of {words}")
    return str(word)
