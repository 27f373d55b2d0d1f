"""The page is valid in both formats, and has the names of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name
from otel_cc.metrics.pull import translate
from otel_cc.metrics.pull.server import application
from otel_cc.metrics.pull.snapshot import Snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0; q=0.5, text/plain;version=0.0.4; q=0.2"


class Process:
    """A meter provider and what a scrape of it shows."""

    def __init__(self, **resource: str) -> None:
        self.reader = InMemoryMetricReader()
        views = [View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())]
        self.provider = MeterProvider([self.reader], Resource({"service.name": "shop", **resource}), views=views)
        self.meter = self.provider.get_meter("app", "1.2")

    def snapshot(self) -> Snapshot:
        return translate.snapshot(self.reader.get_metrics_data())

    def page(self, accept: str = "") -> str:
        answer = {}
        found = application(self.snapshot)(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": "", "HTTP_ACCEPT": accept},
            lambda status, headers: answer.update(status=status, **dict(headers)),
        )
        text = b"".join(found).decode()
        assert answer["status"] == "200 OK", text
        assert answer["Content-Type"].startswith("application/openmetrics-text" if accept else "text/plain")
        return text

    def samples(self) -> dict[str, dict[Any, float]]:
        """By family: the values by name and labels; both formats must say the same."""
        pages = []
        for families in (parse_text(self.page()), parse_openmetrics(self.page(OPENMETRICS))):
            found = {
                # The text format has _total and _info in the names of its families.
                family.name.removesuffix("_info"): {
                    (sample.name, *sorted(sample.labels.items())): sample.value for sample in family.samples
                }
                for family in families
            }
            pages.append(found)
        assert pages[0] == pages[1]
        return pages[0]


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    yield made
    made.provider.shutdown()


SCOPE = (("otel_scope_name", "app"), ("otel_scope_version", "1.2"))


def test_every_instrument_of_the_catalogue_has_its_name(process: Process) -> None:
    for name, entry in CATALOGUE.items():
        kind = {"updown": "up_down_counter"}.get(entry.kind, entry.kind)
        instrument = getattr(process.meter, f"create_{kind}")(name, entry.unit, entry.text)
        getattr(instrument, {"histogram": "record", "gauge": "set"}.get(entry.kind, "add"))(1)
    found = process.snapshot()
    kinds = {"updown": "gauge"}
    assert {(family.name, family.kind, family.merged, family.help) for family in found.families.values()} == {
        (prometheus_name(name).removesuffix("_total"), kinds.get(entry.kind, entry.kind), entry.merged, entry.text)
        for name, entry in CATALOGUE.items()
    }
    assert len(process.samples()) == len(CATALOGUE) + 1


def test_a_page_has_all_kinds_of_metrics(process: Process) -> None:
    meter = process.meter
    meter.create_counter("orders", "1", 'Orders,\n"all" of them.').add(3, {"state.name": 'a"b\\c\nd'})
    meter.create_up_down_counter("load").add(-2)
    meter.create_gauge("water.level", "m").set(1.5)
    meter.create_histogram("wait", "ms", explicit_bucket_boundaries_advisory=(1, 2.5)).record(2)
    assert process.samples() == {
        "target": {("target_info", ("service_name", "shop")): 1},
        "orders": {("orders_total", *SCOPE, ("state_name", 'a"b\\c\nd')): 3},
        "load": {("load", *SCOPE): -2},
        "water_level_meters": {("water_level_meters", *SCOPE): 1.5},
        "wait_milliseconds": {
            ("wait_milliseconds_bucket", ("le", "1.0"), *SCOPE): 0,
            ("wait_milliseconds_bucket", ("le", "2.5"), *SCOPE): 1,
            ("wait_milliseconds_bucket", ("le", "+Inf"), *SCOPE): 1,
            ("wait_milliseconds_count", *SCOPE): 1,
            ("wait_milliseconds_sum", *SCOPE): 2,
        },
    }
    assert "# TYPE orders_total counter\n" in process.page()
    assert '# HELP orders_total Orders,\\n"all" of them.\n' in process.page()
    assert "# TYPE wait_milliseconds histogram\n# UNIT wait_milliseconds milliseconds\n" in process.page(OPENMETRICS)
    assert process.page(OPENMETRICS).endswith("# EOF\n")


def test_values_that_are_no_text_are_written_as_json(process: Process) -> None:
    counter = process.meter.create_counter("c")
    for value in (True, 1, 1.0, "1", ("a", 2)):
        counter.add(1, {"v": value})  # type: ignore[dict-item]  # the SDK takes it
    values = {key[-1][1]: value for key, value in process.samples()["c"].items()}
    assert values == {"true": 1, "1": 2, "1.0": 1, '["a", 2]': 1}


def test_labels_that_become_one_are_joined(process: Process) -> None:
    process.meter.create_counter("c").add(1, {"a.b": "1", "a_b": "2"})
    assert process.samples()["c"] == {("c_total", ("a_b", "1;2"), *SCOPE): 1}


def test_a_label_le_does_not_break_a_histogram(process: Process) -> None:
    process.meter.create_histogram("h", explicit_bucket_boundaries_advisory=()).record(1, {"le": "x"})
    assert ("h_bucket", ("exported_le", "x"), ("le", "+Inf"), *SCOPE) in process.samples()["h"]


def test_metrics_that_become_one_are_added(process: Process) -> None:
    process.meter.create_counter("a.b").add(1)
    process.meter.create_counter("a_b").add(2)
    assert process.samples()["a_b"] == {("a_b_total", *SCOPE): 3}


def test_of_metrics_of_different_kinds_with_one_name_one_is_shown(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.meter.create_counter("x.y").add(1)
    process.meter.create_gauge("x_y").set(2)
    process.meter.create_gauge("x.y.total").set(3)
    assert process.samples()["x_y"] == {("x_y_total", *SCOPE): 1}
    assert "the gauge x_y is not shown" in caplog.text


def test_the_same_name_in_two_scopes_stays_two_series(process: Process) -> None:
    process.meter.create_counter("c").add(1)
    process.provider.get_meter("other").create_counter("c").add(2, {"k": "v"})
    assert process.samples()["c"] == {
        ("c_total", *SCOPE): 1,
        ("c_total", ("k", "v"), ("otel_scope_name", "other"), ("otel_scope_version", "")): 2,
    }


def test_what_prometheus_cannot_show_is_said_once(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    process.meter.create_histogram("exponential").record(1)
    assert set(process.samples()) == {"target"}
    assert caplog.text.count("the metric exponential is not exported") == 1


def test_one_process_does_not_describe_the_service() -> None:
    process = Process(
        **{"service.instance.id": "1", "process.pid": "2", "host.name": "h", "deployment.environment": "e"}
    )
    process.meter.create_counter("c").add(1)
    info = process.samples()["target"]
    assert info == {("target_info", ("deployment_environment", "e"), ("host_name", "h"), ("service_name", "shop")): 1}
    process.provider.shutdown()


def test_exemplars_are_in_their_buckets(process: Process) -> None:
    histogram = process.meter.create_histogram("h", explicit_bucket_boundaries_advisory=(1, 2))
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        histogram.record(0.5)
        histogram.record(7)
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        span_id = trace.format_span_id(span.get_span_context().span_id)
    text = process.page(OPENMETRICS)
    (family,) = (one for one in parse_openmetrics(text) if one.name == "h")
    exemplars = {
        sample.labels["le"]: (sample.exemplar.value, sample.exemplar.labels)
        for sample in family.samples
        if sample.exemplar is not None
    }
    ids = {"trace_id": trace_id, "span_id": span_id}
    assert exemplars == {"1.0": (0.5, ids), "+Inf": (7, ids)}
    assert trace_id not in process.page()


def test_observed_values_are_shown(process: Process) -> None:
    def read(_: object) -> Iterable[Observation]:
        yield Observation(7, {"a": "b"})

    process.meter.create_observable_counter("o", [read])
    process.meter.create_observable_gauge("g", [read])
    assert process.samples()["o"] == {("o_total", ("a", "b"), *SCOPE): 7}
    assert process.samples()["g"] == {("g", ("a", "b"), *SCOPE): 7}
