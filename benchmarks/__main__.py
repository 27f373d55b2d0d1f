"""The command: ``python -m benchmarks [--quick] [--only json,sqlite,...] [--variants bare,stock,ours] [--check]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
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


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark.

    :return: 0; 1 when ``--check`` is given and a target is missed; 2 when a measured process failed
    """
    options = _options(arguments)
    plan = plans.QUICK if options.quick else plans.FULL
    results = Results()
    try:
        with machine(prepare()) as place:
            _measure(place, plan, results, options)
    except ChildError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted as interrupted:
        return interrupted.exit_code
    _save(results, options)
    print(report.text(results))
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


def _measure(place: Machine, plan: plans.Plan, results: Results, options: argparse.Namespace) -> None:
    weights = {name: weight for name, weight in plans.WEIGHTS.items() if name in options.only}
    suites = {**weights}
    workloads: list[str] = [name for name in ("json", "sqlite") if name in weights]
    workloads += plans.DRIVERS if "drivers" in weights else []
    # The endpoints share their processes, and so their time.
    requests = sum(suites.pop(name, 0) for name in ("json", "sqlite", "drivers"))
    clock = Clock(options.seconds or plan.seconds, {"requests": requests, **suites} if workloads else suites)
    variants = [variant for variant in VARIANTS if variant.name in options.variants]
    # The pair has nothing for Celery.
    messaging = [variant for variant in variants if variant.name != "pair"]

    def slice_of(suite: str) -> float:
        seconds = clock.slice(suite)
        print(f"{suite}: {seconds:.0f} s", file=sys.stderr, flush=True)
        return seconds

    if workloads:
        endpoints.run(place, plan, results, workloads, variants, slice_of("requests"))
    if "celery" in suites:
        celery.run(place, plan, results, messaging, slice_of("celery"))
    if "comments" in suites and "ours" in options.variants:
        comments.run(place, plan, results, plans.DRIVERS, slice_of("comments"))
    if "start-up" in suites:
        startup.run(place, plan, results, variants, slice_of("start-up"))


def _save(results: Results, options: argparse.Namespace) -> None:
    path = options.output or cache() / "results" / time.strftime("%Y%m%dT%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quick": options.quick,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "samples": results.document(),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{path}\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
