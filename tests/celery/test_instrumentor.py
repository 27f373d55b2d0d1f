"""Who makes the spans, and that it can be taken back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = """
import os
os.environ["OTEL_CC_STRICT"] = "true"
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from otel_cc.celery import carriers
from otel_cc.celery.instrumentor import CeleryInstrumentor
from otel_cc.context import current
def names():
    found = sorted(span.name for span in exporter.get_finished_spans())
    exporter.clear()
    return found
def play():
    from celery import Celery
    app = Celery("shop", broker="memory://", set_as_current=False)
    @app.task(name="one")
    def one():
        return current().request_id
    one.delay()
    return one.apply().get()
"""


def outcome(code: str, **env: str) -> str:
    """What a program says; its own process, since Celery stays hooked."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OWN = ["publish one", "run one"]
# Contrib ends the span of a publish only when the task is in the registry of the current application.
MODES = {"own": OWN, "contrib": ["apply_async/one", "run/one"]}


@pytest.mark.parametrize("mode", MODES)
def test_spans_come_and_go_with_the_instrumentor_and_the_id_stays(mode: str) -> None:
    code = """
carriers.install()
instrumentor = CeleryInstrumentor()
ids = []
for _ in range(2):
    instrumentor.instrument()
    ids.append(play())
    print(names())
    instrumentor.uninstrument()
    ids.append(play())
    print(names())
assert len(set(ids)) == 4
"""
    assert outcome(code, OTEL_CC_INSTRUMENTATION=mode).splitlines() == [str(MODES[mode]), "[]"] * 2


def test_it_does_not_matter_whether_celery_was_imported_before() -> None:
    code = """
import celery, celery.app.trace, celery.app.base, celery.worker.consumer.consumer as consumer
carriers.install()
CeleryInstrumentor().instrument()
play()
print(names(), hasattr(consumer.build_tracer, "_otel_cc"))
"""
    assert outcome(code) == f"{OWN} True"


def test_taking_it_back_gives_celery_its_own_function_again() -> None:
    code = """
from celery.app.base import Celery
before = Celery.send_task
CeleryInstrumentor().instrument()
assert Celery.send_task is not before
CeleryInstrumentor().uninstrument()
print(Celery.send_task is before)
"""
    assert outcome(code) == "True"


def test_taking_it_back_before_celery_is_imported_leaves_celery_alone() -> None:
    code = """
CeleryInstrumentor().instrument()
CeleryInstrumentor().uninstrument()
from celery.app.base import Celery
print(Celery.send_task.__module__, Celery.send_task.__code__.co_filename.endswith("base.py"))
"""
    assert outcome(code) == "celery.app.base True"


def test_a_process_without_celery_pays_nothing() -> None:
    code = """
import sys
carriers.install()
CeleryInstrumentor().instrument()
print(sorted({"celery", "kombu", "billiard"} & set(sys.modules)))
"""
    assert outcome(code) == "[]"


def test_everything_switched_off_leaves_celery_alone() -> None:
    code = """
CeleryInstrumentor().instrument()
from celery.app.base import Celery
print(Celery.send_task.__code__.co_filename.endswith("base.py"))
"""
    assert outcome(code, OTEL_CC_ENABLED="false") == "True"
