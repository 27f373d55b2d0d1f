"""The command: ``python -m benchmarks [--quick] [--only json,sqlite,...] [--variants bare,stock,ours] [--check]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import plan as plans
from benchmarks import report, verdict
from benchmarks.child import ChildError
from benchmarks.clock import Clock
from benchmarks.environment import cache, prepare
from benchmarks.machine import Machine, machine
from benchmarks.results import Results
from benchmarks.suites import celery, comments, endpoints, startup
from benchmarks.variant import VARIANTS
from otel_cc.local.process import Interrupted

SUITES = tuple(plans.WEIGHTS)

# A first run has to install its environments, but must measure all the same; in seconds.
_LEAST = 60


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark.

    :return: 0; 1 when ``--check`` is given and a target is missed; 2 when a measured process failed
    """
    options = _options(arguments)
    plan = plans.QUICK if options.quick else plans.FULL
    results = Results()
    begin = time.monotonic()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        print(
            f"the machine is busy (load {load:.1f} on {cores} CPUs): rates and times are not worth much",
            file=sys.stderr,
        )
    try:
        with machine(prepare()) as place:
            seconds = options.seconds or max(_LEAST, plan.seconds - (time.monotonic() - begin))
            complete = _measure(place, plan, results, options, seconds)
    except Interrupted as interrupted:
        return interrupted.exit_code
    _save(results, options, load)
    print(report.text(results))
    if not complete:
        return 2
    missed = any(not target.met for target in verdict.targets(results))
    return int(options.check and missed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--quick", action="store_true", default=os.environ.get("QUICK", "") not in ("", "0"),
                        help="end within three minutes; the spread is wider")  # fmt: skip
    parser.add_argument("--only", type=_words(SUITES), default=SUITES, help=f"some of {','.join(SUITES)}")
    names = tuple(variant.name for variant in VARIANTS)
    parser.add_argument("--variants", type=_words(names), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--seconds", type=float, help="how long to measure, instead of the plan's time")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in the cache folder)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args(arguments)


def _words(known: tuple[str, ...]) -> Any:
    def words(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: write some of {','.join(known)}")
        return found

    return words


def _measure(place: Machine, plan: plans.Plan, results: Results, options: argparse.Namespace, seconds: float) -> bool:
    """Run the suites within ``seconds``; False when a measured process failed in one of them."""
    weights = {name: weight for name, weight in plans.WEIGHTS.items() if name in options.only}
    workloads: list[str] = [name for name in ("json", "sqlite") if name in weights]
    workloads += plans.DRIVERS if "drivers" in weights else []
    variants = [variant for variant in VARIANTS if variant.name in options.variants]
    # The pair has nothing for Celery.
    messaging = [variant for variant in variants if variant.name != "pair"]
    suites: dict[str, Callable[[float], None]] = {}
    if workloads:
        # The endpoints share their processes, and so their time.
        weights["requests"] = sum(weights.pop(name, 0) for name in ("json", "sqlite", "drivers"))
        suites["requests"] = lambda seconds: endpoints.run(place, plan, results, workloads, variants, seconds)
    if "celery" in weights:
        suites["celery"] = lambda seconds: celery.run(place, plan, results, messaging, seconds)
    if "comments" in weights and "ours" in options.variants:
        suites["comments"] = lambda seconds: comments.run(place, plan, results, plans.DRIVERS, seconds)
    if "start-up" in weights:
        suites["start-up"] = lambda seconds: startup.run(place, plan, results, variants, seconds)
    clock = Clock(seconds, {name: weights[name] for name in suites})
    complete = True
    for name, run in suites.items():
        share = clock.slice(name)
        print(f"{name}: {share:.0f} s", file=sys.stderr, flush=True)
        try:
            run(share)
        except ChildError as error:
            complete = False
            print(f"{name} is incomplete: {error}", file=sys.stderr)
    return complete


def _save(results: Results, options: argparse.Namespace, load: float) -> None:
    path = options.output or cache() / "results" / time.strftime("%Y%m%dT%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quick": options.quick,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "load": round(load, 2),
        "samples": results.document(),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{path}\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
