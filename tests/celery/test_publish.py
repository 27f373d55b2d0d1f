"""What is measured of a publish, and that whoever names tasks and queues cannot make series without end."""

from __future__ import annotations

import pytest

from tests.celery.test_instrumentor import outcome

MEASURE = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
carriers.install()
CeleryInstrumentor().instrument()
def points(name):
    reader.collect()
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    return [(dict(p.attributes), getattr(p, "value", None) or p.count) for p in metric.data.data_points]
"""


def test_two_thousand_names_are_five_hundred_series() -> None:
    code = """
from celery import Celery
app = Celery("shop", broker="memory://", set_as_current=False)
with app.connection_for_write() as connection:
    producer = app.amqp.Producer(connection, auto_declare=False)
    for number in range(2000):
        app.send_task(f"task{number}", queue=f"queue{number % 300}", producer=producer)
found = points("messaging.client.sent.messages")
tasks = {labels["celery.task.name"] for labels, _ in found}
queues = {labels["messaging.destination.name"] for labels, _ in found}
print(len(tasks), len(queues), "_OTHER" in tasks, "_OTHER" in queues)
print(sum(value for _, value in found), sum(value for _, value in points("messaging.client.operation.duration")))
"""
    # The counter's series beyond its limit are one, too.
    assert outcome(MEASURE + code).splitlines() == ["500 100 True True", "2000 2000"]


def test_a_publish_that_fails_is_counted_with_its_error() -> None:
    code = """
play()
from celery import Celery
try:
    Celery("shop", broker="memory://", set_as_current=False).send_task("one", args=7)
except TypeError:
    pass
for labels, value in points("messaging.client.sent.messages"):
    print(labels["celery.task.name"], labels.get("messaging.destination.name"), labels.get("error.type"), value)
"""
    assert outcome(MEASURE + code).splitlines() == ["one celery None 1", "one None TypeError 1"]


def test_contribs_spans_are_measured_as_ours() -> None:
    code = """
play()
(sent,) = points("messaging.client.sent.messages")
print(names(), sent)
"""
    found = outcome(MEASURE + code, OTEL_CC_INSTRUMENTATION="contrib")
    labels = {
        "messaging.system": "memory",
        "messaging.operation.name": "publish",
        "celery.task.name": "one",
        "messaging.destination.name": "celery",
    }
    assert found == f"['apply_async/one', 'run/one'] ({labels}, 1)"


@pytest.mark.parametrize("unable", ["the monitor has no thread", "the exception has no text"])
def test_the_span_ends_although_something_of_it_fails(unable: str) -> None:
    code = f"""
import threading
from celery import Celery
os.environ["OTEL_CC_STRICT"] = "false"
app = Celery("shop", broker="redis://127.0.0.1:1", set_as_current=False)
producer = app.amqp.Producer(app.connection_for_write(), auto_declare=False)
class Broken(Exception):
    def __str__(self):
        raise OSError
def fails(*args, **kwargs):
    raise {"Broken" if "text" in unable else "RuntimeError"}
producer.publish = fails
if "thread" in {unable!r}:
    threading.Thread.start = fails
try:
    app.send_task("one", producer=producer)
except (Broken, RuntimeError):
    print(trace.get_current_span() is trace.INVALID_SPAN)
(span,) = exporter.get_finished_spans()
print(span.name, span.status.status_code.name)
"""
    assert outcome(MEASURE + code).splitlines() == ["True", "publish one ERROR"]
