"""What the processes told of themselves during the run, and that no span is in none of their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from otel_cc.local.signals import Point
from tests.truth.exported import Labels, difference, process
from tests.truth.mix import KINDS
from tests.truth.stage import SERVERS, Run

# Of a worker that is killed, and of a child that is ended by a hard time limit or terminated with its task, the last
# reports are missing.
KILLED = "deadly"
# How long an endpoint may hold the loop until the timer of the watch is due, in seconds.
TIMER = 0.1


def survived(run: Run) -> Callable[[Point], bool]:
    killed = {key[1] for key in run.events if key[0] == "killed"}
    # Three by a hard time limit, two terminated; a child may have been chosen for more than one.
    assert 1 <= len(killed) <= 5
    return lambda point: point.resource["service.name"] != KILLED and process(point) not in killed


def test_each_server_tells_of_its_loop_and_threads(run: Run) -> None:
    for name in ("process.eventloop.lag", "process.threadpool.tokens.max"):
        points = run.exported.points(name)
        assert len(points) == SERVERS, name
        assert {point.resource["service.name"] for point in points} == {"web"}, name


def test_every_process_tells_of_its_cpu_time_and_memory(run: Run) -> None:
    everyone = {process(point) for points in run.exported.last.values() for point in points.values()}
    for name in ("process.cpu.time", "process.memory.usage"):
        assert {process(point) for point in run.exported.points(name)} == everyone, name


def of_the_servers(point: Point) -> bool:
    return point.resource["service.name"] == "web"


def test_the_servers_used_as_much_cpu_time_as_they_know(run: Run) -> None:
    exported = run.exported.totals("process.cpu.time", "cpu.mode", where=of_the_servers)
    # They read it a moment before their last export.
    truth = {(mode,): run.events["cpu", mode] / 1000 for mode in ("user", "system")}
    assert difference(exported, {}, {key: (used - 0.01 * SERVERS, used + SERVERS) for key, used in truth.items()}) == {}


def test_the_lag_of_the_loop_is_measured_ten_times_a_second(run: Run) -> None:
    count = run.exported.totals("process.eventloop.lag", where=of_the_servers)[()]
    late = run.exported.totals("process.eventloop.lag", where=of_the_servers, sums=True)[()]
    # A timer is set when the one before it has ended, however late.
    served = run.events[("served",)] / 1000
    assert count * TIMER + late == pytest.approx(served, abs=SERVERS)


def test_the_loop_was_blocked_as_long_as_the_endpoint_slept(run: Run) -> None:
    times = KINDS["blocks"].count
    blocked = run.exported.totals("process.eventloop.blocked.time", "http.route")["/blocks",]
    slept = run.events[("blocked",)] / 1000
    assert slept > times * 0.99
    # On a busy machine the loop gets no time before and after it, too.
    assert slept - times * 1.5 * TIMER < blocked < slept + times * 4 * TIMER


def test_threads_are_free_when_nothing_happens(run: Run) -> None:
    for name in ("process.threadpool.tokens.used", "process.threadpool.pending_requests"):
        assert {point.value for point in run.idle.points(name, where=survived(run))} == {0}, name


def test_garbage_collections_by_generation(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for key, number in run.events.items():
        if key[0] == "gc":
            truth[(int(key[1]),)] += number
    exported = run.exported.totals("process.gc.pause.duration", "cpython.gc.generation", where=of_the_servers)
    # The application reads before it serves, and for the last time before it has ended; mostly young objects come and
    # go in these moments.
    slack = {(0,): 20 * SERVERS, (1,): 4 * SERVERS, (2,): 2 * SERVERS}
    bounds = {key: (number - slack[key], number + slack[key]) for key, number in truth.items()}
    assert difference(exported, {}, bounds) == {}


def exports(run: Run, of: str) -> list[Point]:
    """The durations of the survivors' exports of spans, or of metrics."""
    found = run.exported.points("otel.sdk.exporter.operation.duration", where=survived(run))
    return [point for point in found if f"_{of}_" in str(point.attributes["otel.component.type"])]


def test_every_point_of_a_metric_is_counted_that_arrived(run: Run) -> None:
    points = run.exported.points("otel.sdk.exporter.metric_data_point.exported", where=survived(run))
    assert {point.attributes.get("error.type") for point in points} == {None}
    counted = {process(point): point.value for point in points}
    ended = {process(point): point.count for point in exports(run, "metric")}
    assert set(counted) == set(ended) == {process(p) for p in run.exported.points("process.cpu.time", survived(run))}
    for who, sizes in run.exported.sizes.items():
        if who in counted:
            # The last export can only be told by a next one; and a flush may have collected beside the one before it,
            # its count before that had ended and its duration afterwards.
            assert len(sizes) - ended[who] in (1, 2), who
            assert counted[who] in (sum(sizes[:-1]), sum(sizes[:-2])), who


def test_every_span_is_counted_that_arrived(run: Run) -> None:
    survivors = {process(point) for point in run.exported.points("process.cpu.time", where=survived(run))}
    truth = {(who,): number for who, number in run.exported.spans.items() if who in survivors}
    requests = {(who,): number for who, number in run.exported.requests.items() if who in survivors}
    durations = exports(run, "span")
    assert difference({(process(point),): point.count for point in durations}, requests) == {}
    for name in ("otel.sdk.processor.span.processed", "otel.sdk.exporter.span.exported"):
        exported: Counter[Labels] = Counter()
        for point in run.exported.points(name, where=survived(run)):
            assert point.value == 0 or "error.type" not in point.attributes, name
            exported[process(point),] += int(point.value)
        assert difference({key: n for key, n in exported.items() if n}, truth) == {}, name


def test_no_span_waits_when_nothing_happens(run: Run) -> None:
    for name in ("otel.sdk.processor.span.queue.size", "otel.sdk.exporter.span.inflight"):
        assert {point.value for point in run.idle.points(name, where=survived(run))} == {0}, name
