"""The targets, and whether this run meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.plan import DRIVERS, ENDPOINTS
from benchmarks.results import Results
from benchmarks.summary import Summary
from benchmarks.variant import OTLP


@dataclass(frozen=True)
class Target:
    """One figure that must not be exceeded (or must be reached).

    :param limit: the target of today
    :param later: the target that a later version has to meet
    :param least: whether the limit is a minimum
    """

    text: str
    found: Summary
    limit: float
    later: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the median meets the limit, in the two digits that are shown."""
        return _holds(self.found.median, self.limit, self.least)

    def line(self) -> str:
        """One line for the terminal."""
        sign = ">=" if self.least else "<="
        later = "" if _holds(self.found.median, self.later, self.least) else f"; later {sign} {self.later:.2f}"
        spread = f"[{self.found.low:.2f}-{self.found.high:.2f}]"
        return f"{'met   ' if self.met else 'MISSED'}  {self.text}: {self.found.median:.2f} {spread}, wanted {sign} {self.limit:.2f}{later}"


def _holds(value: float, limit: float, least: bool) -> bool:
    value = round(value, 2)
    return value >= limit if least else value <= limit


def targets(results: Results) -> list[Target]:
    """Every target for which this run has figures."""
    return list(_targets(results))


def _targets(results: Results) -> Iterator[Target]:
    for workload in ENDPOINTS:
        found = results.over_ratio(workload, "cpu_us", "ours", OTLP)
        if found:
            statements = "JSON" if workload == "json" else f"3 statements, {workload}"
            yield Target(f"CPU over bare with OTLP export, {statements}, x stock", found, 0.35, 0.20)
    for driver in DRIVERS:
        found = results.ratio(f"comment {driver}", "statement_us", "auto", "", "off")
        if found:
            yield Target(f"SQL comment auto, {driver}, x off", found, 1.05, 1.05)
    for workload, what in (("publish", "Celery publish rate"), ("run", "Celery run rate")):
        found = results.ratio(workload, "per_second", "ours", OTLP, "stock")
        if found:
            yield Target(f"{what} with OTLP export, x stock", found, 1.0, 1.0, least=True)
        bare = results.ratio(workload, "per_second", "ours", OTLP, "bare")
        if bare:
            yield Target(f"{what} with OTLP export, x bare", bare, 0.0, 0.90, least=True)
    for measure, what in (("cpu_s", "start-up CPU"), ("rss_mb", "start-up memory")):
        found = results.over_ratio("start-up", measure, "ours", OTLP)
        if found:
            yield Target(f"{what} over bare, x stock", found, 1.0, 0.5)
