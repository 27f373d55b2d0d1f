"""What a fork in the middle of an export may do to the child."""

from __future__ import annotations

from tests.conftest import Launch

FIRST_EXPORT = """
import sys
from opentelemetry import metrics, trace
from otel_cc.metrics import counter, histogram
counter("celery.task.executions").add(1, {})
histogram("messaging.process.duration").record(1, {})
trace.get_tracer("test").start_span("one").end()
before = set(sys.modules)
assert metrics.get_meter_provider().force_flush()
assert trace.get_tracer_provider().force_flush()
print("imported", sorted(set(sys.modules) - before), flush=True)
"""


def test_the_first_export_imports_nothing(launch: Launch) -> None:
    """A child that is forked during an import in another thread can never import that module: its lock is held."""
    program = launch(["python", "first.py"], files={"first.py": FIRST_EXPORT})
    assert program.wait(30) == 0, program.tail()
    assert "imported []" in program.output().splitlines()
    assert launch.sink.latest("messaging.process.duration")
    assert launch.sink.spans()
