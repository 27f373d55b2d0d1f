"""What Prometheus shows is what happened, to the unit: the run of tests/truth, with a real collector in between.

In the middle a process of the server is replaced and, under load, the collector is started anew; that Celery's pool
replaces a killed child, and that a whole worker is killed, is part of the run. The tests are those of tests/truth; what
they look at are the series of Prometheus. Not compared: what only the smallest value of a histogram tells.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from otel_cc.local import collector as local_collector
from otel_cc.local import prometheus as local_prometheus
from otel_cc.local import prometheus_client
from otel_cc.local.process import Process, Processes, wait_until
from otel_cc.local.signals import Point
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name
from tests.stack.conftest import QUICK, drained
from tests.stack.test_series import OURS
from tests.truth.exported import Exported, process
from tests.truth.stage import SERVERS, Run, perform
from tests.truth.test_catalogue_truth import (  # noqa: F401  collected here, with the fixtures of this module
    ELSEWHERE,
    test_no_cumulative_value_falls,
)
from tests.truth.test_celery_truth import (  # noqa: F401  likewise
    test_a_worker_that_has_ended_is_down_and_one_that_was_killed_was_up,
    test_consumed_tasks_by_name_and_queue,
    test_durations_of_what_has_started,
    test_executions_by_task_queue_state_and_error,
    test_failed_tasks_are_errors,
    test_no_task_is_active_when_nothing_happens,
    test_published_tasks_by_name_queue_and_error,
    test_times_are_of_this_run,
    test_waits_of_what_has_started,
)
from tests.truth.test_http_truth import (  # noqa: F401  likewise
    test_bytes_of_bodies,
    test_clients_that_went_away,
    test_errors_by_endpoint_status_and_type,
    test_nothing_is_active_when_nothing_happens,
    test_requests_by_method_version_route_status_and_error,
    test_the_client_saw_what_was_planned,
    test_the_three_histograms_of_a_request_have_the_same_counts,
    test_time_in_front_of_the_server,
    test_websockets_by_route_code_and_error,
)
from tests.truth.test_process_truth import (  # noqa: F401  likewise
    test_every_span_is_counted_that_arrived,
    test_garbage_collections_by_generation,
    test_no_span_waits_when_nothing_happens,
    test_the_loop_was_blocked_as_long_as_the_endpoint_slept,
    test_threads_are_free_when_nothing_happens,
)
from tests.truth.test_sql_truth import (  # noqa: F401  likewise
    test_connections_by_pool,
    test_failed_operations_by_class,
    test_no_connection_is_used_when_nothing_happens,
    test_operations_are_what_the_server_logged,
    test_operations_by_database_name_and_error,
    test_pools_are_empty_when_their_engines_were_disposed_of,
    test_rows,
)
from tools import scrape

pytestmark = pytest.mark.timeout(900)

# Attributes that are numbers; every label of Prometheus is text.
NUMBERS = {"http.response.status_code", "status_code", "server.port", "cpython.gc.generation"}
# Metrics also go to a receiver of the test, so that it knows when all processes have reported.
ALSO_TO_THE_SINK = """
exporters:
  otlp_http/sink:
    endpoint: {endpoint}
    compression: none
    tls: {{insecure: true}}
    retry_on_failure: {{max_elapsed_time: 0s}}
    sending_queue: {{storage: file_storage/queue}}
service:
  pipelines:
    metrics: {{exporters: [otlp_http/prometheus, otlp_http/sink]}}
    traces: {{exporters: [otlp_http/sink]}}
"""
# docs/celery-metrics.md: what an alert asks, because a series that has ended is shown for five minutes.
SILENT = "time() - max by (celery_worker_name) (celery_worker_heartbeat_timestamp_seconds) > 30"
LOOKS_ALIVE = "celery_worker_up == 1"
# Worker names for each of the two, half a minute after the kill.
ANSWERS: dict[str, set[str]] = {}
# The names of all series at Prometheus, each with the names of its labels.
SERIES: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("prometheus")
    with Processes() as processes:
        store = local_prometheus.start(processes)
        sink = Sink()
        overlay = folder / "sink.yaml"
        overlay.write_text(ALSO_TO_THE_SINK.format(endpoint=sink.endpoint))
        env = {**QUICK, "OTEL_CC_PROMETHEUS_URL": store.url}
        collector = local_collector.start(processes, overlays=("local", str(overlay)), env=env)
        restarts: list[threading.Thread] = []
        busy: list[bool] = []

        def restart(server: Process) -> None:
            wait_until(lambda: has_clients(server), 60, "the second half")
            collector.process.stop(signal.SIGTERM)
            collector.start()
            busy.append(has_clients(server))

        def halfway(server: Process) -> None:
            replace_one(server)
            restarts.append(threading.Thread(target=restart, args=[server]))
            restarts[0].start()

        run = perform(
            folder,
            valkey,
            7,
            sink,
            halfway,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_METRIC_EXPORT_TIMEOUT="5000",
        )
        restarts[0].join()
        assert busy == [True], "the collector was not started anew under load"
        drained(collector, exporter="otlp_http/prometheus")
        with prometheus_client.Client(store.url) as prometheus:
            SERIES.update(scrape.read(store.url, run.began, run.ended + 5)[scrape.APPLICATION])
            # Half a minute after the kill, and after the other one has said that it ends.
            later = max(run.rested + 35, run.ended + 5)
            for asked in (SILENT, LOOKS_ALIVE):
                samples = prometheus.instant(asked, later)
                ANSWERS[asked] = {sample.labels["celery_worker_name"] for sample in samples}
            exported = shown(prometheus, run.ended + 5, f"{run.ended + 5 - run.began:.0f}s")
            # Spans are no series: what came to the sink.
            exported.spans, exported.requests = run.exported.spans, run.exported.requests
            yield replace(
                run,
                exported=exported,
                idle=shown(prometheus, run.rested, f"{run.rested - run.began:.0f}s"),
            )


@pytest.fixture(scope="module")
def run(own: Run) -> Run:
    return own


def replace_one(server: Process) -> None:
    """End one process of the server, whose supervisor starts another."""
    workers = [child for child in psutil.Process(server.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].terminate()
    wait_until(
        lambda: server.output().count("Application startup complete") > SERVERS, 60, "the start of another process"
    )


def port(server: Process) -> int:
    return int(server.argv[server.argv.index("--port") + 1])


def has_clients(server: Process) -> bool:
    """Whether anybody is connected to the server."""
    children = psutil.Process(server.pid).children()
    connections = [one for child in children if child.is_running() for one in child.net_connections("tcp")]
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port(server) for one in connections)


def shown(prometheus: prometheus_client.Client, at: float, window: str) -> Exported:
    """The last values of all series up to a time, as if they had been exported to the test."""
    found = Exported(())
    for name, entry in CATALOGUE.items():
        attributes = {attribute.replace(".", "_"): attribute for attribute in entry.attributes}
        shown_as = prometheus_name(name)
        values = {}
        for suffix in ("_count", "_sum") if entry.kind == "histogram" else ("",):
            for sample in prometheus.instant(f"last_over_time({shown_as}{suffix}[{window}])", at):
                labels = {attributes[label]: text for label, text in sample.labels.items() if label in attributes}
                key = tuple(sorted((a, int(t) if a in NUMBERS else t) for a, t in labels.items()))
                who = sample.labels["job"], sample.labels["instance"]
                values.setdefault((who, key), {})[suffix] = sample.value
            if entry.kind in ("histogram", "counter") and suffix != "_sum":
                for sample in prometheus.instant(f"resets({shown_as}{suffix}[{window}]) > 0", at):
                    found.falls.append((name, (sample.labels["instance"], tuple(sorted(sample.labels.items())))))
        for ((job, instance), key), value in values.items():
            point = Point(
                name,
                "histogram" if entry.kind == "histogram" else "gauge" if entry.kind == "gauge" else "sum",
                entry.unit,
                entry.text,
                dict(key),
                value.get("_sum", value.get("", 0.0)),
                int(value.get("_count", 0)),
                monotonic=entry.kind == "counter",
                resource={"service.name": job, "service.instance.id": instance},
            )
            found.last[name][process(point), key] = point
    return found


def test_a_process_was_replaced_in_the_middle(own: Run) -> None:
    assert len({who for who, _ in own.exported.last["http.server.request.duration"]}) == SERVERS + 1


def test_the_record_of_all_series_holds(own: Run) -> None:
    """``make scrape`` renews it; it has more traffic, so a label may be missing here, never there."""
    assert sorted(set(OURS) - set(SERIES)) == [prometheus_name(name) for name in sorted(ELSEWHERE)]
    assert {name: more for name, labels in SERIES.items() if (more := set(labels) - set(OURS.get(name, ())))} == {}


def test_a_worker_that_was_killed_does_not_look_alive_where_an_alert_depends_on_it(own: Run) -> None:
    assert ANSWERS[LOOKS_ALIVE] == {"deadly@truth"}
    assert "deadly@truth" in ANSWERS[SILENT]
