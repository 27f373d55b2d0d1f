"""What a fork in the middle of an export may do to the child."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

from otel_cc import fork
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


def test_a_child_does_not_send_over_the_connection_of_its_parent() -> None:
    exporter = OTLPMetricExporter(endpoint="http://127.0.0.1:1/v1/metrics")

    def held() -> list[object]:
        # The places of different versions: the exporter itself, or its transport.
        transport = getattr(getattr(exporter, "_client", None), "_transport", None)
        found = [getattr(holder, name, None) for holder in (exporter, transport) for name in ("_session", "_pool")]
        return [connections for connections in found if connections is not None]

    before = held()
    assert before
    fork._reconnect(exporter)
    assert len(held()) == len(before)
    assert not {id(connections) for connections in held()} & {id(connections) for connections in before}
    exporter.shutdown()
