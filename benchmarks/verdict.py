"""The targets, and whether this run meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.plan import DRIVERS, ENDPOINTS
from benchmarks.results import Results
from benchmarks.summary import Summary
from benchmarks.table import number
from benchmarks.variant import OTLP


@dataclass(frozen=True)
class Target:
    """One figure that must not be exceeded (or must be reached).

    :param limit: the target of today, or None when there is only a later one
    :param later: the target that a later version has to meet
    :param least: whether the limits are minimums
    :param lost: what did not arrive, which makes the figure worthless; "" when everything did
    """

    text: str
    found: Summary
    limit: float | None
    later: float
    least: bool = False
    lost: str = ""

    @property
    def met(self) -> bool:
        """Whether the median meets the limit of today, in the two digits that are shown."""
        return not self.lost and (self.limit is None or _holds(self.found.median, self.limit, self.least))

    def line(self) -> str:
        """One line for the terminal."""
        sign = ">=" if self.least else "<="
        verdict = "MISSED " if not self.met else "       " if self.limit is None else "met    "
        wanted = [] if self.limit is None else [f"wanted {sign} {self.limit:.2f}"]
        if not _holds(self.found.median, self.later, self.least):
            wanted.append(f"later {sign} {self.later:.2f}")
        found = f"{self.found.median:.2f} [{self.found.low:.2f}-{self.found.high:.2f}]"
        lost = [self.lost] if self.lost else []
        return f"{verdict} {self.text}: {', '.join([found, *wanted, *lost])}"


def _holds(value: float, limit: float, least: bool) -> bool:
    value = round(value, 2)
    return value >= limit if least else value <= limit


def _lost(results: Results, workload: str, expected: int) -> str:
    spans = results.plain(workload, "spans", "ours", OTLP)
    if spans is None or spans.median >= expected:
        return ""
    return f"but only {spans.median:.1f} of {expected} spans arrived"


def targets(results: Results) -> list[Target]:
    """Every target for which this run has figures."""
    return list(_targets(results))


def _targets(results: Results) -> Iterator[Target]:
    for workload in ENDPOINTS:
        found = results.over_ratio(workload, "cpu_us", "ours", OTLP)
        if found:
            statements = "JSON" if workload == "json" else f"3 statements, {workload}"
            lost = _lost(results, workload, 1 if workload == "json" else 4)
            yield Target(f"CPU over bare with OTLP export, {statements}, x stock", found, 0.35, 0.20, lost=lost)
    for driver in DRIVERS:
        found = results.ratio(f"comment {driver}", "statement_us", "auto", "", "off")
        if found:
            noise = number(results.ratio(f"comment {driver}", "statement_us", "control", "", "off"), 2)
            yield Target(f"SQL comment auto, {driver}, x off (off x off is {noise})", found, 1.05, 1.05)
    for workload, what in (("publish", "Celery publish rate"), ("run", "Celery run rate")):
        found = results.ratio(workload, "per_second", "ours", OTLP, "stock")
        if found:
            lost = _lost(results, workload, 1)
            yield Target(f"{what} with OTLP export, x stock", found, 1.0, 1.0, least=True, lost=lost)
        bare = results.ratio(workload, "per_second", "ours", OTLP, "bare")
        if bare:
            yield Target(f"{what} with OTLP export, x bare", bare, None, 0.90, least=True)
    for measure, what in (("cpu_s", "start-up CPU"), ("rss_mb", "start-up memory")):
        found = results.over_ratio("start-up", measure, "ours", OTLP)
        if found:
            yield Target(f"{what} over bare, x stock", found, 1.0, 0.5)
