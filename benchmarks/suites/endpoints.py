"""CPU per request: every variant answers the same requests in turns, round by round, in a random order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.child import Child
from benchmarks.clock import Clock, rounds, sets
from benchmarks.machine import Machine
from benchmarks.plan import COUNTS, Plan
from benchmarks.results import Results
from benchmarks.variant import Variant, exports

Children = list[tuple[Variant, str, Child]]


def run(
    machine: Machine,
    plan: Plan,
    results: Results,
    workloads: Sequence[str],
    variants: Sequence[Variant],
    seconds: float,
) -> None:
    """Measure the endpoints in sets of fresh processes that live side by side.

    :param seconds: for everything, the start of the processes included
    """
    for share in sets(seconds, plan.sets):
        # JSON is quick to measure, the database drivers are many: all get the same.
        clock = Clock(share, dict.fromkeys(workloads, 1.0))
        with ExitStack() as stack:
            children = [
                (variant, export, stack.enter_context(machine.child(variant, export, "child")))
                for variant in variants
                for export in exports(variant, plan.exports)
            ]
            for _, _, child in children:
                child.answer()
            for workload in workloads:
                wanted = plan.exports if workload in ("json", "sqlite") else plan.driver_exports
                chosen = [each for each in children if each[1] in ("", *wanted)]
                _workload(workload, chosen, plan, results, clock.slice(workload))


def _workload(workload: str, children: Children, plan: Plan, results: Results, seconds: float) -> None:
    count = COUNTS[workload]
    for _, _, child in children:
        child.ask(workload=workload, count=count)
    for _ in rounds(seconds, plan.least, plan.most):
        for variant, export, child in random.sample(children, len(children)):
            results.add(workload, variant.name, export, child.ask(workload=workload, count=count))
