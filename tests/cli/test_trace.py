"""``otel-cc trace ID`` over files: a tree or JSON, and for every reason why there is none a sentence and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from otel_cc.local.process import free_port
from otel_cc.local.sink import Sink
from tests.local.test_otlp_json import request
from tests.local.test_traces import A, B, span, write

OTEL_CC = Path(sys.executable).parent / "otel-cc"


def trace(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(OTEL_CC), "trace", *args],
        env={**{name: value for name, value in os.environ.items() if name != "OTEL_CC_JAEGER_URL"}, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "traces.json",
        request(span(A, 1, request_id="order-42"), span(A, 2, 1, request_id="order-42")),
        request(span(B, 3, request_id="order-42")),
    )


def test_a_trace_is_printed_as_a_tree(file: Path) -> None:
    done = trace(f"00-{A}-00f067aa0ba902b7-01", "--file", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"trace {A}",
        "request ID order-42, 1970-01-01 00:00:00.001 UTC, 2 spans, 1 service, 1.5 ms, no errors",
        "  s1  0.5 ms",
        "└──   s2  0.5 ms",
    ]


def test_every_trace_of_a_request_id_is_printed(file: Path) -> None:
    done = trace("order-42", "-f", str(file))
    assert [line for line in done.stdout.splitlines() if line.startswith("trace ")] == [f"trace {A}", f"trace {B}"]
    assert (done.returncode, done.stderr) == (0, "2 traces have this ID; oldest first.\n")


def test_json_is_for_machines(file: Path) -> None:
    done = trace("order-42", "-f", str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert [(one["trace_id"], len(one["spans"])) for one in answer] == [(A, 2), (B, 1)]


def test_the_list_of_spans_can_be_shortened(file: Path) -> None:
    assert "1 more span not shown" in trace(A, "-f", str(file), "--limit", "1").stdout
    assert "more" not in trace(A, "-f", str(file), "--limit", "0").stdout


def test_no_trace_is_exit_code_1(file: Path) -> None:
    done = trace("order-99", "-f", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"No trace of order-99 is in {file}.\n"


def test_what_is_no_id_is_exit_code_2(file: Path) -> None:
    done = trace("\x1b[2J no id", "-f", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("'\\x1b[2J no id' is no ID: give a request ID")
    assert done.stderr.count("\n") == 1


def test_a_file_that_cannot_be_read_is_exit_code_2(tmp_path: Path) -> None:
    done = trace(A, "-f", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path / 'none'} cannot be read: No such file or directory.\n"


def test_jaeger_that_does_not_answer_is_exit_code_2_and_a_sentence() -> None:
    port = free_port()
    done = trace(A, OTEL_CC_JAEGER_URL=f"http://name:secret@127.0.0.1:{port}/")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Jaeger at http://127.0.0.1:{port} cannot be reached" in done.stderr
    assert done.stderr.endswith("start it, or set OTEL_CC_JAEGER_URL (or --jaeger).\n")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_proxy_of_the_environment_is_not_asked_for_this_machine(sink: Sink) -> None:
    done = trace(A, "--jaeger", sink.endpoint, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")
    assert f"Jaeger at {sink.endpoint} answered /api/v3/traces/{A} with status 501" in done.stderr
    assert done.returncode == 2


def test_what_is_no_jaeger_is_exit_code_2_and_a_sentence(tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        try:
            done = trace(A, "--jaeger", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"what answers at http://127.0.0.1:{server.server_port} has no /api/services of Jaeger's API" in done.stderr


@pytest.mark.parametrize("url", ["", "localhost:16686", "ftp://127.0.0.1", "http://", "http://[::1"])
def test_an_address_that_is_none_is_exit_code_2_and_a_sentence(url: str) -> None:
    done = trace(A, "--jaeger", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the address of Jaeger must begin with http:// or https://" in done.stderr


def test_the_help_names_the_variable_and_the_exit_codes() -> None:
    text = " ".join(trace("--help", COLUMNS="200").stdout.split())
    assert "OTEL_CC_JAEGER_URL" in text
    assert "Ends with 1 when there is none" in text
