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
    assert program.wait(60) == 0, program.tail()
    assert "imported []" in program.output().splitlines()
    assert launch.sink.latest("messaging.process.duration")
    assert launch.sink.spans()


LOGS = """
import logging, os
from opentelemetry import _logs
(processor,) = _logs.get_logger_provider()._multi_log_record_processor._log_record_processors
exporter = processor._batch_processor._exporter
holder = exporter if hasattr(exporter, "_session") else exporter._client._transport
def kept():
    return id(getattr(holder, "_session", None) or holder._pool)
before = kept()
child = os.fork()
if child == 0:
    print("shared" if kept() == before else "its own", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_child_does_not_send_logs_over_the_connection_of_its_parent(launch: Launch) -> None:
    switched_on = {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}
    program = launch(["python", "-W", "ignore", "logs.py"], files={"logs.py": LOGS}, env=switched_on)
    assert program.wait(60) == 0, program.tail()
    assert "its own" in program.output().splitlines()


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
