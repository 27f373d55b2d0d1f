"""The SQL comment: time per statement with the comment against the same engine without it, for each driver."""

from __future__ import annotations

import time

from benchmarks.clock import Clock, rounds, sets
from benchmarks.machine import Machine
from benchmarks.plan import COUNTS, DRIVERS, Plan
from benchmarks.results import Results
from benchmarks.variant import NOOP, OURS


def run(machine: Machine, plan: Plan, results: Results, seconds: float) -> None:
    """Measure each driver in fresh processes."""
    for share in sets(seconds, plan.side_sets):
        clock = Clock(share, dict.fromkeys(DRIVERS, 1.0))
        for driver in DRIVERS:
            end = time.monotonic() + clock.slice(driver)
            with machine.child(OURS, NOOP, "comments", driver) as child:
                child.answer()
                child.ask(count=COUNTS["comments"])
                for _ in rounds(end - time.monotonic(), plan.least, plan.most):
                    for engine, value in child.ask(count=COUNTS["comments"]).items():
                        results.add(f"comment {driver}", engine, "", {"statement_us": value})
