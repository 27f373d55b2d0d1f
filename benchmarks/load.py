"""What the collector carries: ``python -m benchmarks.load [--seconds 10] [--json] [--check]``.

The deployed configuration (base and local, queues on disk) on one core; sender and receiver have the others. All that
was acknowledged must arrive. Beside it stands what the collector's own testbed allows for 10,000 items per second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.table import render
from otel_cc.local import collector as local_collector
from otel_cc.local.process import ProcessError, Processes, says, wait_until

# https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/testbed: 10k items/s of traces over OTLP.
TESTBED = {"rate": 10_000, "cpu": 0.30, "rss_mb": 100}
TARGET = {"rate": 20_000, "rss_mb": 200}
BATCH = 512
CONNECTIONS = 4
# How the trace IDs of an encoded request begin, until it is sent.
MARK = bytes.fromhex("f5a1c3e79b2d4860")
LITERALS = "SELECT id, name FROM orders WHERE id = 4711 AND name = 'ada'"
PARAMETERS = (
    "SELECT orders.id AS orders_id, orders.name FROM orders WHERE orders.id = %(id_1)s AND orders.name = %(name_1)s"
)
# 0 is as fast as it goes.
RATES = (10_000, 20_000, 0)
HEAD = ("spans", "spans/s", "cores", "spans/CPU s", "RSS MB", "sent", "received", "again", "")


@dataclass(frozen=True)
class Measured:
    """One rate.

    :param wanted: spans per second; 0 is as fast as it goes
    :param rate: spans per second that were acknowledged
    :param cpu: of the collector, in cores: seconds until its queue was empty over seconds of sending
    :param rss_mb: its largest resident memory
    :param sent: spans that were acknowledged
    :param received: spans that arrived
    :param distinct: the same without those that arrived again
    """

    wanted: int
    rate: float
    cpu: float
    rss_mb: float
    sent: int
    received: int
    distinct: int
    load_average: float

    @property
    def met(self) -> bool:
        """Whether nothing is lost or doubled, the rate is what was wanted (but for 2 %), and the memory too."""
        enough = self.rate >= (self.wanted * 0.98 or TARGET["rate"]) and self.rss_mb < TARGET["rss_mb"]
        return self.sent == self.received == self.distinct and enough

    @property
    def per_cpu_second(self) -> float:
        """Spans that one second of CPU carries; other than the rate, it hardly depends on who else uses the machine."""
        return self.rate / self.cpu


def body(number: int) -> bytes:
    """One request of an application: traces of one request each, with three statements, one of which has literals."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (("service.name", "shop-api"), ("service.instance.id", f"load-{number}")):
        resource.resource.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
    scope = resource.scope_spans.add()
    scope.scope.name = "otel_cc"
    now = time.time_ns()
    for index in range(BATCH):
        if index % 4 == 0:
            trace_id, parent = MARK + secrets.token_bytes(8), secrets.token_bytes(8)
            attributes = {
                "http.request.method": "GET",
                "url.path": f"/orders/{index}",
                "http.route": "/orders/{number}",
                "http.response.status_code": 200,
                "request.id": trace_id.hex(),
            }
            name, kind, span_id, parent_id = "GET /orders/{number}", Span.SPAN_KIND_SERVER, parent, b""
        else:
            attributes = {
                "db.system.name": "postgresql",
                "db.namespace": "shop",
                "db.operation.name": "SELECT",
                "db.query.text": LITERALS if index % 4 == 1 else PARAMETERS,
                "request.id": trace_id.hex(),
            }
            name, kind, span_id, parent_id = "SELECT orders", Span.SPAN_KIND_CLIENT, secrets.token_bytes(8), parent
        span = scope.spans.add(
            trace_id=trace_id, span_id=span_id, parent_span_id=parent_id, name=name, kind=kind,
            start_time_unix_nano=now, end_time_unix_nano=now + 1_000_000,
        )  # fmt: skip
        for key, value in attributes.items():
            typed = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
            span.attributes.append(KeyValue(key=key, value=typed))
    return request.SerializeToString()


def fresh(encoded: bytes) -> bytes:
    """The same request with trace IDs that no other has."""
    begin = secrets.token_bytes(len(MARK))
    return encoded.replace(MARK, begin).replace(MARK.hex().encode(), begin.hex().encode())


class Sender:
    """Sends for some seconds and counts what was acknowledged."""

    def __init__(self, port: int, bodies: list[bytes]) -> None:
        self._port = port
        self._bodies = bodies
        self._lock = threading.Lock()
        self.acknowledged = 0

    def send(self, rate: int, seconds: float) -> float:
        """Send, and return how long it took.

        :param rate: spans per second; 0 is as fast as it goes
        """
        begin = time.monotonic()
        pause = BATCH * CONNECTIONS / rate if rate else 0.0
        threads = [
            threading.Thread(target=self._one, args=(begin + number * pause / CONNECTIONS, pause, begin + seconds))
            for number in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - begin

    def _one(self, due: float, pause: float, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        while due < end and time.monotonic() < end:
            time.sleep(max(0.0, due - time.monotonic()))
            due += pause
            number += 1
            connection.request(
                "POST",
                "/v1/traces",
                fresh(self._bodies[number % len(self._bodies)]),
                {"Content-Type": "application/x-protobuf"},
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                with self._lock:
                    self.acknowledged += BATCH
        connection.close()


@contextmanager
def cores(wanted: set[int]) -> Iterator[None]:
    """Programs that are started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(rate: int, seconds: float) -> Measured:
    """A fresh collector under one rate.

    :raises ProcessError: it does not start
    """
    everything = sorted(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    with Processes() as processes:
        with cores(set(everything[1:])):
            program = str(Path(__file__).with_name("sink.py"))
            sink = processes.start("sink", [sys.executable, program], ready=says(r"(?m)^\d+$"))
        url = f"http://127.0.0.1:{int(sink.output())}/load"
        with cores({everything[0]}):
            collector = local_collector.start(processes, env={"OTEL_CC_TRACES_URL": url, "OTEL_CC_HOST_INTERVAL": "1h"})
        process = psutil.Process(collector.process.pid)
        sender = Sender(collector.http_port, [body(number) for number in range(20)])
        rss: list[int] = []
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                rss.append(process.memory_info().rss)

        watcher = threading.Thread(target=look)
        watcher.start()
        before = sum(process.cpu_times()[:2])
        with cores(set(everything[1:])):
            took = sender.send(rate, seconds)
        wait_until(lambda: collector.queued("otlp_http/traces") == 0, 120, "an empty queue")
        cpu = (sum(process.cpu_times()[:2]) - before) / took
        done.set()
        watcher.join()
        # What left the queue is on its way.
        collector.process.stop()
        with urllib.request.urlopen(f"{url}/taken", timeout=120) as answer:
            arrived = json.load(answer)
    sent = sender.acknowledged
    return Measured(rate, sent / took, cpu, max(rss) / 1e6, sent, arrived["spans"], arrived["distinct"], load)


def text(found: list[Measured]) -> str:
    """The table for the terminal."""
    rows = [
        [
            f"{one.wanted:,}/s" if one.wanted else "as fast as it goes",
            f"{one.rate:,.0f}",
            f"{one.cpu:.2f}",
            f"{one.per_cpu_second:,.0f}",
            f"{one.rss_mb:.0f}",
            f"{one.sent:,}",
            f"{one.received:,}",
            f"{one.received - one.distinct:,}",
            "" if one.met else "MISSED",
        ]
        for one in found
    ]
    testbed = [f"{TESTBED['rate']:,}", f"{TESTBED['cpu']:.2f}", f"{TESTBED['rate'] / TESTBED['cpu']:,.0f}"]
    rows.append(["testbed's ceilings", *testbed, f"{TESTBED['rss_mb']:.0f}", "", "", "", ""])
    wanted = [f">= {TARGET['rate']:,}", "", "", f"< {TARGET['rss_mb']}"]
    rows.append(["wanted of one core", *wanted, "", "= sent", "0", ""])
    title = f"The collector on one core (load average before: {found[0].load_average:.1f})"
    return render(title, HEAD, rows)


def main(arguments: list[str] | None = None) -> int:
    """Measure every rate.

    :return: 0; 1 when ``--check`` is given and something is missed; 2 when the collector is missing
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--seconds", type=float, default=3 if os.environ.get("QUICK", "") not in ("", "0") else 10)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args(arguments)
    try:
        found = [measure(rate, options.seconds) for rate in RATES]
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps([asdict(one) for one in found], indent=2) if options.json else text(found))
    return int(options.check and not all(one.met for one in found))


if __name__ == "__main__":
    sys.exit(main())
