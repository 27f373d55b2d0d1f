"""``otel-cc trace`` against a real Jaeger that the shop sends its spans to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_cc.local import application, demo, jaeger
from otel_cc.local.evidence import Request
from otel_cc.local.process import Processes, wait_until

ORDER = {"customer": "ada", "lines": [{"article": "tea", "quantity": 1}]}


@dataclass(frozen=True)
class Stage:
    """A shop whose spans go to a Jaeger."""

    shop: application.Shop
    jaeger: jaeger.Jaeger

    def order(self, request_id: str) -> None:
        request = Request("", "POST", "/orders", 201, ORDER, {"X-Request-ID": request_id})
        assert demo.send(self.shop.port, request).status == 201

    def arrived(self, trace_id: str) -> bool:
        """Whether both sides of the invoice are there."""
        answer = httpx.get(f"{self.jaeger.url}/api/traces/{trace_id}", timeout=30)
        return answer.status_code == 200 and "run shop.invoice" in answer.text and "POST /orders" in answer.text


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Processes() as processes:
        store = jaeger.start(processes)
        extra = {
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        yield Stage(application.start(processes, store.otlp, extra=extra), store)


def trace(store: jaeger.Jaeger, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "otel-cc"), "trace", *args],
        env={**os.environ, "OTEL_CC_JAEGER_URL": store.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def as_json(store: jaeger.Jaeger, *args: str) -> list[dict[str, Any]]:
    done = trace(store, *args, "--json")
    assert done.returncode == 0, done.stderr
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer


def test_every_form_of_an_id_leads_to_the_whole_trace(stage: Stage) -> None:
    given = str(uuid.uuid4())
    trace_id = given.replace("-", "")
    stage.order(given)
    wait_until(lambda: stage.arrived(trace_id), 30, "the trace")
    done = trace(stage.jaeger, given)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"trace {trace_id}"
    assert lines[1].startswith(f"request ID {given}, ")
    assert ", 2 services, " in lines[1]
    assert lines[1].endswith(", no errors")
    assert lines[2].startswith("shop-api  POST /orders  ")
    assert any(line.lstrip("│├─└ ").startswith("shop-worker  run shop.invoice  ") for line in lines)
    assert "INSERT INTO orders" in done.stdout
    assert f"traceparent='00-{trace_id}-SPAN-..'" in " ".join(done.stdout.split())
    for other in (given.upper(), trace_id, trace_id.upper(), f"00-{trace_id}-00f067aa0ba902b7-01"):
        assert trace(stage.jaeger, other).stdout == done.stdout


def test_the_span_that_is_named_for_the_log_is_the_one_in_postgresqls_log(stage: Stage) -> None:
    given = str(uuid.uuid4())
    trace_id = given.replace("-", "")
    stage.order(given)
    wait_until(lambda: stage.arrived(trace_id), 30, "the trace")
    (found,) = as_json(stage.jaeger, given)
    inserts = [span for span in found["spans"] if "INSERT INTO orders" in span["attributes"].get("db.query.text", "")]
    (logged,) = [one for one in stage.shop.database.statements(trace_id) if "INSERT INTO orders" in one.sql]
    assert [f"traceparent='00-{trace_id}-{span['span_id']}-" in logged.sql for span in inserts] == [True]


def test_a_request_id_leads_to_its_traces_and_to_no_others(stage: Stage) -> None:
    for name in ("order-42", "order-42", "order-43"):
        stage.order(name)

    def found() -> list[dict[str, Any]]:
        done = trace(stage.jaeger, "order-42", "--json")
        traces = json.loads(done.stdout) if done.returncode == 0 else []
        return traces if len(traces) == 2 and all(len(one["services"]) == 2 for one in traces) else []

    first, second = wait_until(found, 30, "two traces")
    assert first["start"] < second["start"]
    assert [one["request_ids"] for one in (first, second)] == [["order-42"], ["order-42"]]


def test_an_id_of_no_request_is_exit_code_1_and_what_may_be(stage: Stage) -> None:
    stage.order(first := str(uuid.uuid4()))
    wait_until(lambda: stage.arrived(first.replace("-", "")), 30, "the trace")
    for text in ("order-99", str(uuid.uuid4()), uuid.uuid4().hex, f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01"):
        done = trace(stage.jaeger, text)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"Jaeger at {stage.jaeger.url} has no trace" in done.stderr
        assert "It has spans of shop-api, shop-worker." in done.stderr


def test_an_error_is_shown_where_it_happened(stage: Stage) -> None:
    given = uuid.uuid4().hex
    demo.send(stage.shop.port, Request("", "GET", "/customers/nobody/average", 500, None, {"X-Request-ID": given}))
    done = wait_until(lambda: d if (d := trace(stage.jaeger, given)).returncode == 0 else None, 30, "the trace")
    assert ", 1 error\n" in done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_what_strangers_sent_is_only_text(stage: Stage) -> None:
    evil = "\x1b[2J[red]\u202e"
    provider = TracerProvider(resource=Resource({"service.name": f"shop&tags={{}}/{evil} ä"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{stage.jaeger.otlp}/v1/traces")))
    with provider.get_tracer("t").start_as_current_span(
        evil, attributes={"request.id": "evil-1", "db.query.text": evil}
    ):
        pass
    provider.shutdown()
    done = wait_until(lambda: d if (d := trace(stage.jaeger, "evil-1")).returncode == 0 else None, 30, "the trace")
    assert "\\x1b[2J[red]\\u202e" in done.stdout
    assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines())
    # And what a search lists as it goes on.
    assert "\x1b" not in trace(stage.jaeger, "order-98").stderr


def test_ten_thousand_spans_come_in_seconds(stage: Stage) -> None:
    provider = TracerProvider(resource=Resource({"service.name": "many"}))
    exporter = OTLPSpanExporter(f"{stage.jaeger.otlp}/v1/traces")
    tracer = provider.get_tracer("t")
    with tracer.start_as_current_span("root") as root:
        spans = [tracer.start_span(f"s{number}") for number in range(9_999)]
        for span in spans:
            span.end()
    for first in range(0, 9_999, 1000):
        exporter.export(spans[first : first + 1000])  # type: ignore[arg-type]
    exporter.export([root])  # type: ignore[list-item]
    provider.shutdown()
    text = f"{root.get_span_context().trace_id:032x}"
    done = wait_until(lambda: d if "10,000 spans" in (d := trace(stage.jaeger, text)).stdout else None, 60, "all spans")
    assert "9,000 more spans not shown, 0 of them failed" in done.stdout


def test_jaeger_answers_what_grafana_asks(stage: Stage) -> None:
    """The data source of Grafana asks the older API, which Jaeger has dropped after 2.20."""
    given = str(uuid.uuid4())
    trace_id = given.replace("-", "")
    stage.order(given)
    wait_until(lambda: stage.arrived(trace_id), 30, "the trace")

    def ask(path: str, **params: str | int) -> Any:
        answer = httpx.get(f"{stage.jaeger.url}/api/{path}", params=params, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    # The check of its settings, and the two lists of the search.
    assert "shop-api" in ask("services")
    assert "POST /orders" in ask("services/shop-api/operations")

    now = time.time()
    span = {"service": "shop-api", "operation": "POST /orders", "minDuration": "1us", "maxDuration": "1m"}
    within = {"start": int((now - 3600) * 1e6), "end": int((now + 60) * 1e6), "limit": 20}
    (found,) = ask("traces", **span, **within, tags=json.dumps({"request.id": given}))
    assert ask("traces", **span, **within, tags=json.dumps({"request.id": f"{given}-not"})) == []
    assert ask("traces", **{**span, "minDuration": "59s"}, **within) == []
    (whole,) = ask(f"traces/{trace_id}")
    for trace in (found, whole):
        # What a row of the search and the tree are made of.
        assert trace["traceID"] == trace_id
        services = {key: process["serviceName"] for key, process in trace["processes"].items()}
        assert set(services.values()) == {"shop-api", "shop-worker"}
        first = min(trace["spans"], key=lambda span: span["startTime"])
        assert (first["operationName"], services[first["processID"]]) == ("POST /orders", "shop-api")
        assert {"key": "request.id", "type": "string", "value": given} in first["tags"]
        assert abs(first["startTime"] / 1e6 - now) < 60
        assert 0 < first["duration"] < 60e6
        others = [span for span in trace["spans"] if span is not first]
        assert all(span["references"][0]["refType"] == "CHILD_OF" for span in others)

    assert httpx.get(f"{stage.jaeger.url}/api/traces/{uuid.uuid4().hex}", timeout=30).status_code == 404
    lookback = {"endTs": int(now * 1000), "lookback": 3_600_000}
    assert {"parent": "shop-api", "child": "shop-worker"}.items() <= ask("dependencies", **lookback)[0].items()


def test_a_jaeger_without_spans_says_so_and_one_that_is_gone_too() -> None:
    with Processes() as processes:
        store = jaeger.start(processes)
        done = trace(store, "order-42")
        assert (done.returncode, done.stdout) == (1, "")
        assert "It has no spans at all: is OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
        store.process.stop()
        done = trace(store, "order-42")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"Jaeger at {store.url} cannot be reached" in done.stderr
