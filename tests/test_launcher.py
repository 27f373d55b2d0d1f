"""Our distro wins under every way to start, the user's variables win over it, and nothing broken breaks the application."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx
import pytest

from otel_cc.local.process import free_port, listens, wait_until
from otel_cc.local.sink import Sink
from tests.conftest import BIN, Launch

APP = {
    "app.py": """
import logging

from fastapi import FastAPI

app = FastAPI()


@app.get("/items/{number}")
async def item(number: int) -> int:
    return number
"""
}


def instrumented(url: str, sink: Sink) -> None:
    """One request is one SERVER span of ours, and the response carries its trace ID."""
    response = httpx.get(url + "/items/7", timeout=30)
    trace_id = response.headers["x-request-id"]
    (span,) = sink.wait_spans(1, where=lambda span: span.trace_id == trace_id)
    assert (span.name, span.scope, span.trace_id) == ("GET /items/{number}", "otel_cc.http", trace_id)


STARTS = {
    "uvicorn": lambda launch: launch.uvicorn(files=APP),
    "uvicorn --workers": lambda launch: launch.uvicorn("--workers", "2", files=APP),
    "uvicorn --reload": lambda launch: launch.uvicorn("--reload", files=APP),
    "gunicorn": lambda launch: launch.gunicorn(files=APP),
    "gunicorn --preload": lambda launch: launch.gunicorn("--preload", files=APP),
}


@pytest.mark.parametrize("start", STARTS)
def test_every_way_to_start_is_instrumented_by_us(launch: Launch, sink: Sink, start: str) -> None:
    server = STARTS[start](launch)

    def answers() -> bool:
        try:
            httpx.get(server.url, timeout=30)
        except httpx.TransportError:
            # The port of a reloader is open before its worker listens.
            return False
        return True

    wait_until(answers, 60, "an answer")
    instrumented(server.url, sink)
    # opentelemetry-distro is installed as well; that it is not used is no news, in helper processes either.
    assert "not loaded" not in server.process.output()


@pytest.fixture(scope="session")
def injected() -> dict[str, str]:
    """The environment of an injection by PYTHONPATH alone, as a Kubernetes operator does it."""
    found = subprocess.run(
        [sys.executable, "-c", "import opentelemetry.instrumentation.auto_instrumentation as a; print(a.__path__[0])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {"PYTHONPATH": found.stdout.strip()}


@pytest.mark.parametrize("winner", ["otel_cc", "distro", None])
def test_injection_by_pythonpath_works_whichever_distro_wins(
    launch: Launch, sink: Sink, injected: dict[str, str], winner: str | None
) -> None:
    chosen = {
        "OTEL_PYTHON_DISTRO": winner,
        "OTEL_PYTHON_CONFIGURATOR": winner and {"distro": "configurator"}.get(winner, winner),
    }
    server = launch.uvicorn(files=APP, instrument=False, env={**injected, **chosen, "OTEL_LOGS_EXPORTER": "none"})
    instrumented(server.url, sink)


def test_the_users_variables_win(launch: Launch, sink: Sink) -> None:
    env = {"OTEL_METRICS_EXPORTER": "none", "OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_SAMPLER": "always_off"}
    server = launch.uvicorn(files=APP, env=env)
    response = httpx.get(server.url + "/items/7", headers={"X-Request-ID": "order-42"}, timeout=30)
    server.process.stop()
    assert response.headers["x-request-id"] == "order-42"
    assert sink.requests == 0


def test_options_of_the_launcher_are_settings(launch: Launch, sink: Sink) -> None:
    launcher = str(BIN / "opentelemetry-instrument")
    port = free_port()
    argv = [
        launcher,
        "--cc_request_id_header",
        "X-Correlation-ID",
        str(BIN / "uvicorn"),
        "app:app",
        "--port",
        str(port),
    ]
    launch(argv, files=APP, instrument=False, ready=listens(port))
    response = httpx.get(f"http://127.0.0.1:{port}/items/7", headers={"X-Correlation-ID": "order-42"}, timeout=30)
    assert response.headers["x-correlation-id"] == "order-42"
    assert "x-request-id" not in response.headers


BROKEN = {
    "OTEL_TRACES_EXPORTER": "nonsense",
    "OTEL_METRICS_EXPORTER": "nonsense",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "nonsense",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "nonsense",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "nonsense",
    "OTEL_BSP_MAX_QUEUE_SIZE": "nonsense",
    "OTEL_TRACES_SAMPLER": "nonsense",
    "OTEL_PYTHON_ID_GENERATOR": "nonsense",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "nonsense",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "1.5",
    "OTEL_CONFIG_FILE": "/nonexistent/otel.yaml",
    "OTEL_PYTHON_EXCLUDED_URLS": "(",
    "OTEL_CC_SQL_COMMENT": "nonsense",
    "OTEL_CC_SHUTDOWN_TIMEOUT": "-1",
    "OTEL_CC_NONSENSE": "1",
}


@pytest.mark.parametrize("variable", BROKEN)
def test_a_broken_option_is_a_clear_line_and_the_application_runs(launch: Launch, variable: str) -> None:
    server = launch.uvicorn(files=APP, env={variable: BROKEN[variable], "OTEL_CC_STRICT": None})
    response = httpx.get(server.url + "/items/7", headers={"X-Request-ID": "order-42"}, timeout=30)
    assert (response.status_code, response.headers["x-request-id"]) == (200, "order-42")
    server.process.stop()
    output = server.process.output()
    naming = [line for line in output.splitlines() if variable in line or BROKEN[variable] in line]
    assert naming, output
    assert "Traceback" not in output, output


# The value of an option, and what the line about it must name, so that the user looks in the right place.
REMEDIES = {
    "OTEL_METRIC_EXPORT_INTERVAL": ("15s", "OTEL_METRIC_EXPORT_INTERVAL='15s' is not a positive number"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/json", "correct OTEL_EXPORTER_OTLP_PROTOCOL"),
    "OTEL_METRICS_EXEMPLAR_FILTER": ("some", "correct OTEL_METRICS_EXPORTER, another OTEL_METRICS_*"),
}


@pytest.mark.parametrize("variable", REMEDIES)
def test_the_line_about_a_broken_option_names_what_to_correct(launch: Launch, variable: str) -> None:
    value, line = REMEDIES[variable]
    server = launch.uvicorn(files=APP, env={variable: value, "OTEL_CC_STRICT": None})
    server.process.stop()
    assert line in server.process.output()


@pytest.mark.parametrize("value", ["-5", "nan", "inf", "1e300"])
def test_a_wrong_interval_costs_no_metrics(launch: Launch, sink: Sink, value: str) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_METRIC_EXPORT_INTERVAL": value})
    httpx.get(server.url + "/items/7")
    server.process.stop()
    assert sink.latest("http.server.request.duration")


def test_an_empty_variable_is_one_that_is_not_set(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_TRACES_EXPORTER": "", "OTEL_METRICS_EXPORTER": ""})
    instrumented(server.url, sink)
    server.process.stop()
    assert sink.latest("http.server.request.duration")


CONFIG = """
file_format: "1.0"
resource:
  attributes:
    - {{name: service.name, value: from-file}}
tracer_provider:
  processors:
    - batch:
        schedule_delay: 200
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/traces
"""


def test_declarative_configuration_keeps_working_with_our_pieces(launch: Launch, sink: Sink) -> None:
    config = launch.folder / "otel.yaml"
    config.write_text(CONFIG.format(endpoint=sink.endpoint))
    server = launch.uvicorn(files=APP, env={"OTEL_CONFIG_FILE": str(config)})
    instrumented(server.url, sink)
    assert sink.spans()[0].service == "from-file"
    sink.clear()
    httpx.get(server.url + "/items/7", headers={"X-Request-ID": "order-42"}, timeout=30)
    (span,) = sink.wait_spans(1)
    assert span.attributes["request.id"] == "order-42"


def test_disabled_means_that_the_application_behaves_as_without_us(launch: Launch, sink: Sink) -> None:
    bare = launch.uvicorn(files=APP, instrument=False)
    off = launch.uvicorn(files=APP, env={"OTEL_CC_ENABLED": "false", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"})
    for path in ("/items/7", "/items/x", "/nowhere", "/openapi.json"):
        answers = [
            httpx.get(server.url + path, headers={"X-Request-ID": "order-42"}, timeout=30) for server in (bare, off)
        ]
        first, second = ((a.status_code, [h for h in a.headers.raw if h[0] != b"date"], a.content) for a in answers)
        assert first == second
    assert "otel-cc" not in off.process.output()


def test_disabled_leaves_the_stock_distribution_at_work(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP, env={"OTEL_CC_ENABLED": "false", "OTEL_LOGS_EXPORTER": "none"})
    response = httpx.get(server.url + "/items/7", timeout=30)
    assert "x-request-id" not in response.headers
    assert {span.scope for span in sink.wait_spans(3)} == {"opentelemetry.instrumentation.fastapi"}


def test_the_start_line_says_what_was_done(launch: Launch, sink: Sink) -> None:
    env = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "celery"}
    server = launch.uvicorn("--workers", "2", files=APP, env=env)
    httpx.get(server.url, timeout=30)

    def started() -> list[str]:
        return [line for line in server.process.output().splitlines() if line.startswith("otel-cc ")]

    wait_until(lambda: len(started()) == 2, 60, "two lines")
    lines = started()
    port = sink.endpoint
    said = {re.sub(r"process \d+", "process N", line) for line in lines}
    (line,) = said
    assert len(lines) == 2
    assert "in asgi process N: instrumented " in line
    assert "fastapi (own)" in line
    assert "skipped celery (OTEL_PYTHON_DISABLED_INSTRUMENTATIONS), sqlalchemy (not imported)" in line
    assert f"traces to {port}, metrics to {port}, logs to nowhere" in line


def test_the_status_files_say_the_same_and_go_with_their_process(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(files=APP)
    httpx.get(server.url, timeout=30)
    folder = launch.folder / "status"
    (file,) = folder.glob("*.json")
    state = json.loads(file.read_text())
    assert (state["kind"], state["instrumented"]["fastapi"], state["service"]) == ("asgi", "own", "test")
    server.process.stop()
    assert list(folder.glob("*.json")) == []


TRACERS = {
    "ddtrace": {"ddtrace/__init__.py": ""},
    "newrelic": {"newrelic/__init__.py": "", "newrelic/agent.py": ""},
}


@pytest.mark.parametrize("name", TRACERS)
def test_another_tracer_is_named(launch: Launch, name: str) -> None:
    module = {"ddtrace": "ddtrace", "newrelic": "newrelic.agent"}[name]
    files = {**TRACERS[name], "app.py": f"import {module}\n" + APP["app.py"]}
    server = launch.uvicorn(files=files)
    assert f"also active here: {name}" in server.process.output()
