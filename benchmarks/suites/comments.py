"""The SQL comment: time per statement with the comment against the same engine without it, for each driver."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.clock import Clock, rounds, sets
from benchmarks.machine import Machine
from benchmarks.plan import COUNTS, Plan
from benchmarks.results import Results
from benchmarks.variant import OURS


def run(machine: Machine, plan: Plan, results: Results, drivers: Sequence[str], seconds: float) -> None:
    """Measure each driver in fresh processes."""
    for share in sets(seconds, plan.side_sets):
        clock = Clock(share, dict.fromkeys(drivers, 1.0))
        for driver in drivers:
            end = time.monotonic() + clock.slice(driver)
            with machine.child(OURS, plan.comment_export, "comments", driver) as child:
                child.answer()
                child.ask(count=COUNTS["comments"])
                for _ in rounds(end - time.monotonic(), plan.least, plan.most):
                    for engine, value in child.ask(count=COUNTS["comments"]).items():
                        results.add(f"comment {driver}", engine, "", {"statement_us": value})
