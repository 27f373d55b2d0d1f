"""What Prometheus shows: the names of the catalogue, job and instance, exemplars; and no client costs another one's metrics."""

from __future__ import annotations

import time

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from otel_cc.local.collector import Collector
from otel_cc.local.process import wait_until
from otel_cc.local.prometheus import Prometheus
from tests.stack.conftest import eventually, query
from tests.stack.sender import DELTA, counter, metrics, pairs, post


def send(collector: Collector, request: object) -> None:
    assert post(collector.http_port, "/v1/metrics", request.SerializeToString()) == 200  # type: ignore[attr-defined]


def gauge(name: str, number: float, unit: str = "") -> Metric:
    metric = Metric(name=name, unit=unit)
    metric.gauge.data_points.add(as_double=number, time_unix_nano=time.time_ns())
    return metric


def duration(trace: bytes, span: bytes) -> Metric:
    metric = Metric(name="http.server.request.duration", unit="s")
    metric.histogram.aggregation_temporality = 2
    now = time.time_ns()
    point = metric.histogram.data_points.add(
        count=2,
        sum=0.3,
        bucket_counts=[1, 1, 0],
        explicit_bounds=[0.1, 1],
        time_unix_nano=now,
        start_time_unix_nano=now,
    )
    point.attributes.extend(pairs({"http.route": "/orders/{id}"}))
    point.exemplars.add(as_double=0.2, time_unix_nano=now, trace_id=trace, span_id=span)
    return metric


def test_names_job_instance_and_promoted_attributes(to_prometheus: Collector, prometheus: Prometheus) -> None:
    request = metrics(
        "shop",
        duration(bytes(range(16)), bytes(range(8))),
        gauge("celery.worker.up", 1),
        counter("commandcenter.errors", 3),
    )
    request.resource_metrics[0].resource.attributes.extend(pairs({"service.version": "1.2", "host.name": "box"}))
    send(to_prometheus, request)
    (found,) = eventually(prometheus, 'http_server_request_duration_seconds_count{job="test/shop",instance="i1"}')
    labels = found["metric"]
    assert (
        labels["http_route"] == "/orders/{id}" and labels["service_version"] == "1.2" and labels["host_name"] == "box"
    )
    assert query(prometheus, 'celery_worker_up{job="test/shop"}')
    assert query(prometheus, 'commandcenter_errors_total{job="test/shop"}')[0]["value"][1] == "3"


def test_an_exemplar_leads_to_its_trace(to_prometheus: Collector, prometheus: Prometheus) -> None:
    send(to_prometheus, metrics("exemplars", duration(bytes(range(16)), bytes(range(8)))))
    text = 'http_server_request_duration_seconds_bucket{job="test/exemplars"}'
    now = time.time()
    found = wait_until(
        lambda: query(prometheus, text, "query_exemplars", start=now - 60, end=now + 60), 30, "an exemplar"
    )
    assert found[0]["exemplars"][0]["labels"]["trace_id"] == bytes(range(16)).hex()


def test_the_file_systems_of_the_host_are_there(to_prometheus: Collector, prometheus: Prometheus) -> None:
    assert eventually(prometheus, 'system_filesystem_usage_bytes{job="host",instance="localhost",state="used"}')
    assert eventually(prometheus, 'system_filesystem_utilization_ratio{job="host"} < 1')


def test_a_bad_client_costs_nobody_else_a_point(to_prometheus: Collector, prometheus: Prometheus) -> None:
    now = time.time_ns()
    bad = [
        metrics("bad-name", counter("", 1), counter("good", 1)),
        metrics("bad-delta", counter("delta", 1, temporality=DELTA)),
        metrics("bad-future", counter("future", 1, at=now + 3600 * 10**9), counter("good", 1)),
        metrics("bad-past", counter("past", 1, at=now - 30 * 3600 * 10**9), counter("good", 1)),
        # What no processor keeps out: two values for one moment, also those of two processes that say they are one.
        metrics("bad-twice", counter("twice", 1, at=now), counter("twice", 2, at=now)),
        metrics("bad-twice", counter("twice", 3, at=now)),
    ]
    for number, request in enumerate(bad):
        send(to_prometheus, metrics(f"good-{number}-before", counter("good", 1)))
        send(to_prometheus, request)
        send(to_prometheus, metrics(f"good-{number}-after", counter("good", 1)))
    wait_until(
        lambda: len(query(prometheus, 'good_total{job=~"test/good-.*"}')) == 2 * len(bad), 30, "every good client"
    )
    # The good points of three of the bad ones are there, too, and a delta has become cumulative.
    wait_until(lambda: len(query(prometheus, 'good_total{job=~"test/bad-.*"}')) == 3, 30, "their good points")
    assert eventually(prometheus, 'delta_total{job="test/bad-delta"} == 1')


def test_what_was_kept_for_hours_is_still_taken_beside_what_is_new(
    to_prometheus: Collector, prometheus: Prometheus
) -> None:
    now = time.time_ns()
    send(to_prometheus, metrics("kept", gauge("late", 2)))
    eventually(prometheus, 'late{job="test/kept"} == 2')
    old = gauge("late", 1)
    old.gauge.data_points[0].time_unix_nano = now - 4 * 3600 * 10**9
    send(to_prometheus, metrics("kept", old))
    (found,) = eventually(prometheus, 'late{job="test/kept"} offset 4h == 1')
    assert found["value"][1] == "1"


def test_the_loss_of_a_refused_request_is_counted(to_prometheus: Collector, prometheus: Prometheus) -> None:
    failed = "otelcol_exporter_send_failed_metric_points_total"
    before = to_prometheus.total(failed)
    now = time.time_ns()
    send(to_prometheus, metrics("refused", counter("refused", 1, at=now)))
    send(to_prometheus, metrics("refused", counter("refused", 2, at=now)))
    wait_until(lambda: to_prometheus.total(failed) > before, 30, "a counted loss")


def test_a_worker_that_died_does_not_look_alive_to_an_alert(to_prometheus: Collector, prometheus: Prometheus) -> None:
    # Prometheus shows the last value of a pushed series for five minutes; the heartbeat tells its age at once.
    send(
        to_prometheus,
        metrics(
            "dead", gauge("celery.worker.heartbeat.timestamp", time.time() - 90, "s"), gauge("celery.worker.up", 1)
        ),
    )
    send(
        to_prometheus,
        metrics("alive", gauge("celery.worker.heartbeat.timestamp", time.time(), "s"), gauge("celery.worker.up", 1)),
    )
    eventually(prometheus, 'celery_worker_up{job="test/dead"} == 1')
    alive = eventually(prometheus, "celery_worker_up == 1 and time() - celery_worker_heartbeat_timestamp_seconds < 60")
    assert [one["metric"]["job"] for one in alive] == ["test/alive"]
