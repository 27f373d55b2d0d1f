"""What was acknowledged arrives, whatever breaks; what cannot arrive is counted."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import programs
from otel_cc.local.collector import Collector
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK, arrived, drained
from tests.stack.sender import Sender, counter, log, metrics, pairs, post, spans

TRACES = "otlp_http/traces"
METRICS = "otlp_http/prometheus"

# Seconds; test_outage.py has the long one, with the real stores.
OUTAGE = 5


def check(sender: Sender, sink: Sink, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    """Every acknowledged span has arrived; how many came twice is reported."""
    counts = arrived(sink)
    lost = sender.acknowledged - set(counts)
    twice = sum(count - 1 for count in counts.values())
    with capsys.disabled():
        print(f"\n  {fault}: {len(sender.acknowledged)} acknowledged, {len(lost)} lost, {twice} duplicates", end="")
    assert sender.acknowledged
    assert not lost


def sent(sender: Sender, more: int) -> None:
    """Wait until so many more spans are acknowledged."""
    goal = len(sender.acknowledged) + more
    wait_until(lambda: len(sender.acknowledged) >= goal, 30, f"{goal} acknowledged spans")


def test_nothing_is_lost_when_the_collector_is_killed_under_load(
    collector: Collector, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    with Sender(collector.http_port) as sender:
        sent(sender, 1000)
        collector.process.kill()
        collector.start()
        sent(sender, 1000)
    drained(collector)
    check(sender, sink, capsys, "kill -9 under load")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost_when_the_collector_ends_while_the_store_is_away(
    collector: Collector, sink: Sink, capsys: pytest.CaptureFixture[str], end: signal.Signals
) -> None:
    sink.refuse(503)
    with Sender(collector.http_port) as sender:
        sent(sender, 1000)
        collector.process.stop(end)
        collector.start()
        sent(sender, 500)
    assert collector.queued(TRACES) > 0
    sink.accept()
    drained(collector)
    check(sender, sink, capsys, f"{end.name} with the store away")


def test_no_metric_is_lost_when_the_collector_is_killed_while_the_store_is_away(
    collector: Collector, sink: Sink
) -> None:
    sink.refuse(503)
    for number in range(1, 101):
        request = metrics("sender", counter("sent.items", number))
        assert post(collector.http_port, "/v1/metrics", request.SerializeToString()) == 200
    collector.process.kill()
    collector.start()
    assert collector.queued(METRICS) > 0
    sink.accept()
    drained(collector, exporter=METRICS)
    # What was on its way comes last then; Prometheus takes it in any order.
    assert sorted(point.value for point in sink.metrics()["sent.items"]) == list(range(1, 101))


def test_nothing_is_lost_when_the_store_is_down_for_a_while(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Sink().start()
    env = {"OTEL_CC_TRACES_URL": before.endpoint, "OTEL_CC_PROMETHEUS_URL": before.endpoint, **QUICK}
    collector = local_collector.start(processes, env=env)
    with Sender(collector.http_port) as sender:
        sent(sender, 500)
        before.stop()
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > OUTAGE, OUTAGE + 5)
        with Sink(port=before.port) as after:
            sent(sender, 500)
            sender.stop()
            drained(collector)
            counts = arrived(before) + arrived(after)
    lost = sender.acknowledged - set(counts)
    twice = sum(counts.values()) - len(counts)
    with capsys.disabled():
        n = len(sender.acknowledged)
        print(f"\n  store down for {OUTAGE} s: {n} acknowledged, {len(lost)} lost, {twice} duplicates", end="")
    assert not lost


def test_nothing_is_lost_in_twenty_reloads_under_load(
    collector: Collector, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = collector.process.pid
    with Sender(collector.http_port) as sender:
        for _ in range(20):
            reloads = collector.process.output().count("Everything is ready")
            collector.process.send(signal.SIGHUP)
            wait_until(
                lambda seen=reloads: collector.process.output().count("Everything is ready") > seen, 30, "a reload"
            )
            sent(sender, 100)
    assert collector.process.running and collector.process.pid == pid
    drained(collector)
    check(sender, sink, capsys, "SIGHUP x20 under load")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_nothing_is_lost_when_the_store_asks_to_try_again(collector: Collector, sink: Sink, status: int) -> None:
    sink.refuse(status)
    assert post(collector.http_port, "/v1/traces", spans(1, 200).SerializeToString()) == 200
    sink.wait_requests(2, 30)
    sink.accept()
    drained(collector)
    assert arrived(sink) == dict.fromkeys(range(1, 201), 1)
    assert collector.total("otelcol_exporter_send_failed_spans_total") == 0


@pytest.mark.parametrize("status", [400, 500])
def test_what_the_store_refuses_for_good_is_counted(collector: Collector, sink: Sink, status: int) -> None:
    sink.refuse(status)
    assert post(collector.http_port, "/v1/traces", spans(1, 200).SerializeToString()) == 200
    wait_until(lambda: collector.total("otelcol_exporter_send_failed_spans_total", TRACES) == 200, 30)
    sink.accept()
    assert post(collector.http_port, "/v1/traces", spans(1000, 10).SerializeToString()) == 200
    drained(collector)
    assert set(arrived(sink)) == set(range(1000, 1010))


def test_a_full_queue_makes_the_sender_wait_and_loses_nothing(
    processes: Processes, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
    collector = local_collector.start(
        processes, env={**env, "OTEL_CC_QUEUE_BYTES": "20000"}, overlays=_small(processes)
    )
    sink.refuse(503)
    # Longer than a request to the full queue may take.
    with Sender(collector.http_port, pause=0) as sender:
        wait_until(lambda: collector.queued(TRACES) > 15000, 30, "a full queue")
        before = len(sender.acknowledged)
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 1, 30)
        assert len(sender.acknowledged) - before < 200
        sink.accept()
        sent(sender, 500)
    drained(collector)
    check(sender, sink, capsys, "a full queue")


def _small(processes: Processes) -> list[str]:
    """The overlays for a queue that is smaller than a batch usually is."""
    file = processes.folder / "small.yaml"
    file.write_text(
        "exporters:\n  otlp_http/traces: &small {sending_queue: {batch: {min_size: 1000}}}\n  otlp_http/logs: *small\n"
    )
    return ["local", str(file)]


def test_a_large_item_takes_nothing_with_it(processes: Processes, sink: Sink) -> None:
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
    env["OTEL_CC_LOGS_URL"] = f"{sink.endpoint}/v1/logs"
    collector = local_collector.start(processes, env=env, overlays=["local", "logs"])
    request = spans(1, 9)
    large = request.resource_spans[0].scope_spans[0].spans[4]
    large.attributes.extend(pairs({"text": "x" * 4 * 2**20}))
    assert post(collector.http_port, "/v1/traces", request.SerializeToString()) == 200
    record = log("x" * 4 * 2**20)
    record.resource_logs.extend(log("after it").resource_logs)
    assert post(collector.http_port, "/v1/logs", record.SerializeToString()) == 200
    sink.wait_spans(9)
    assert arrived(sink) == dict.fromkeys(range(1, 10), 1)
    # In one export or in two.
    wait_until(lambda: len(sink.logs()) >= 2, 30, "the log records")
    assert len(sink.logs()) == 2


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics"])
def test_what_is_too_large_is_refused_and_the_collector_goes_on(collector: Collector, sink: Sink, path: str) -> None:
    text = "x" * 17 * 2**20
    request = spans(1, 1, {"text": text}) if path == "/v1/traces" else metrics("sender", counter("large", 1, text=text))
    # The connection may be closed before all of it is sent.
    assert post(collector.http_port, path, request.SerializeToString()) in (0, 400, 413)
    assert post(collector.http_port, "/v1/traces", spans(7, 1).SerializeToString()) == 200
    drained(collector)
    # The collector's own points of the host come once a minute.
    assert set(arrived(sink)) == {7} and "large" not in sink.metrics()


def test_it_receives_over_grpc(collector: Collector, sink: Sink) -> None:
    address = ["--otlp-endpoint", f"127.0.0.1:{collector.grpc_port}", "--otlp-insecure"]
    for what in (["traces", "--traces=1"], ["metrics", "--metrics=1", "--otlp-metric-name=over.grpc"]):
        subprocess.run([programs.find("telemetrygen"), *what, *address], check=True, capture_output=True, timeout=60)
    assert {span.service for span in sink.wait_spans(2)} == {"telemetrygen"}
    assert sink.wait_metric("over.grpc")


@pytest.fixture
def small_disk(processes: Processes, tmp_path: Path) -> Path:
    """A file system of 2 MiB, in a name space that lives as long as the process that holds it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=2m tmpfs {shlex.quote(str(folder))} && echo mounted && exec sleep infinity"
    said = []
    for flags in ("-m", "-Urm"):
        holder = processes.start("disk", ["unshare", flags, "sh", "-c", mount], wait=False)
        wait_until(lambda holder=holder: not holder.running or "mounted" in holder.output(), 30)
        if holder.running:
            return Path(f"/proc/{holder.pid}/root{folder}")
        said.append(holder.tail())
    pytest.fail(
        "a small file system cannot be mounted here: run the test as root, or allow user name spaces "
        f"(sysctl kernel.unprivileged_userns_clone=1, or docker run --privileged). {' '.join(said)}"
    )


def test_nothing_is_lost_when_the_disk_of_the_queue_is_full(
    processes: Processes, sink: Sink, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
    collector = local_collector.start(processes, env=env, state=small_disk / "state")
    sink.refuse(503)
    with Sender(collector.http_port, batch=200, pause=0) as sender:
        # The collector counts what it could not write, and the sender keeps it.
        wait_until(
            lambda: collector.total("otelcol_exporter_enqueue_failed_spans_total", TRACES) > 0, 30, "a failed write"
        )
        assert collector.healthy()
        sink.accept()
        wait_until(lambda: len(arrived(sink)) > 0, 30, "spans after the outage")
        sent(sender, 400)
    # As much as the disk holds, through a receiver in Python, on a machine that is busy with other tests.
    drained(collector, timeout=120)
    check(sender, sink, capsys, "full disk")
