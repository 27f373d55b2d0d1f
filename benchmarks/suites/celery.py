"""Celery: how fast a variant publishes messages, and how fast its solo worker runs the same messages afterwards."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import redis

from benchmarks.child import Child, ChildError
from benchmarks.clock import rounds, sets
from benchmarks.machine import Machine
from benchmarks.plan import COUNTS, Plan
from benchmarks.results import Results
from benchmarks.variant import Variant, exports
from otel_cc.local.process import Process

_WORKER = ["-m", "celery", "-A", "benchmarks.workload.tasks", "worker", "--pool=solo", "--loglevel=warning"]
# Idle workers share the machine with the one that is measured: they must not talk to each other meanwhile.
_QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
_TIMEOUT = 60


@dataclass(frozen=True)
class Pair:
    """A publisher and a worker of one variant, with a queue of their own."""

    variant: Variant
    export: str
    queue: str
    publisher: Child
    worker: Process


def run(machine: Machine, plan: Plan, results: Results, variants: Sequence[Variant], seconds: float) -> None:
    """Measure publishing and running in sets of fresh processes."""
    client = redis.Redis.from_url(machine.broker.url)
    for share in sets(seconds, plan.side_sets):
        begin = time.monotonic()
        with ExitStack() as stack:
            pairs = [
                _start(machine, stack, variant, export)
                for variant in variants
                for export in exports(variant, plan.side_exports)
            ]
            for pair in pairs:
                pair.publisher.answer()
                _round(client, pair)
            for _ in rounds(share - (time.monotonic() - begin), plan.least, plan.most):
                for pair in random.sample(pairs, len(pairs)):
                    published, ran = _round(client, pair)
                    results.add("publish", pair.variant.name, pair.export, _with_rate(published))
                    results.add("run", pair.variant.name, pair.export, _with_rate(ran))
    client.close()


def _start(machine: Machine, stack: ExitStack, variant: Variant, export: str) -> Pair:
    queue = machine.name()
    worker = machine.start(
        variant, export, "worker", [*_WORKER, *_QUIET, "-Q", queue], BENCH_SQLITE="", BENCH_POSTGRES=""
    )
    stack.callback(worker.stop)
    publisher = stack.enter_context(
        machine.child(variant, export, "child", BENCH_QUEUE=queue, BENCH_SQLITE="", BENCH_POSTGRES="")
    )
    return Pair(variant, export, queue, publisher, worker)


def _round(client: redis.Redis, pair: Pair) -> tuple[dict[str, float], dict[str, float]]:
    """Publish while the worker stands still, then let it run what was published."""
    count = COUNTS["celery"]
    pair.publisher.ask(workload="begin", count=1)
    _await(client, pair, "waiting")
    published = pair.publisher.ask(workload="publish", count=count)
    pair.publisher.ask(workload="end", count=count)
    client.rpush(f"{pair.queue}:go", "1")
    return published, json.loads(_await(client, pair, "result"))


def _await(client: redis.Redis, pair: Pair, what: str) -> bytes | str:
    answer = client.blpop([f"{pair.queue}:{what}"], timeout=_TIMEOUT)
    if answer is None:
        raise ChildError(f"the worker of {pair.variant.name} did not answer within {_TIMEOUT} s:\n{pair.worker.tail()}")
    return answer[1]


def _with_rate(measures: dict[str, float]) -> dict[str, float]:
    return {**measures, "per_second": 1e6 / measures["wall_us"]}
