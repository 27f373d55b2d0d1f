"""How long a task waited, from a header that anybody may have written."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.celery import queue_time
from otel_cc.local.signals import Point
from tests.celery.conftest import Stage

NOW = 1_795_000_000.0


def at(seconds: float) -> dict[str, Any]:
    return {queue_time.HEADER: f"{NOW + seconds:.6f}"}


def eta(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


@pytest.mark.parametrize(
    ("headers", "due", "waited"),
    [
        (at(-2.5), None, 2.5),
        ({"headers": at(-2.5)}, None, 2.5),
        ({queue_time.HEADER: at(-2.5)[queue_time.HEADER].encode()}, None, 2.5),
        # It should wait until its eta; one that is over at the time of publishing changes nothing.
        (at(-60), eta(-2.5), 2.5),
        (at(-2.5), eta(-60), 2.5),
        (at(-60), eta(0.2), 0),
        # Clocks differ.
        (at(3), None, 0),
        (at(-86_400 * 29), None, 86_400 * 29),
    ],
)
def test_a_wait_is_the_time_since_the_publishing_or_the_eta(
    headers: dict[str, Any], due: datetime | None, waited: float
) -> None:
    assert queue_time.waited(headers, due, NOW) == pytest.approx(waited)


@pytest.mark.parametrize(
    "value",
    ["", "now", "nan", "inf", "-inf", "1e400", "0", "-1", "9" * 33, f"{NOW + 7200}", f"{NOW - 86_400 * 31}", None, 7.5],
)
def test_a_value_that_cannot_be_is_no_wait(value: Any) -> None:
    assert queue_time.waited({queue_time.HEADER: value}, None, NOW) is None


@given(st.one_of(st.text(), st.floats().map(str), st.integers(), st.binary(), st.lists(st.text())))
def test_whatever_the_header_says_a_wait_is_not_negative_and_not_absurd(value: Any) -> None:
    waited = queue_time.waited({queue_time.HEADER: value}, NOW, NOW)
    assert waited is None or 0 <= waited <= 86_400 * 31


def test_what_was_written_is_read() -> None:
    headers: dict[str, Any] = {}
    queue_time.write(headers)
    waited = queue_time.waited(headers, None, time.time() + 1)
    assert waited == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_a_task_that_has_to_wait_is_measured_and_one_with_an_eta_does_not_wait(
    stages: Callable[..., Stage], broker: str
) -> None:
    stage = stages(broker)
    driver = stage.driver()
    worker = stage.worker("--pool", "solo", "--prefetch-multiplier", "1")
    # Much longer than it may have to wait on a busy machine.
    eta = 6.0
    driver("send_later", "two", eta)
    driver("many", stage.variables["QUEUE"], 1, "sleeps", 1.0, f"{broker}-waits")
    before = time.time()
    driver("many", stage.variables["QUEUE"], 1, "counts", f"{broker}-waits")
    sent = time.time()

    def wait(name: str) -> Point:
        name_of = "celery.task.name"
        (point,) = stage.sink.wait_metric("celery.task.queue.duration", where=lambda p: p.attributes[name_of] == name)
        return point

    waited = wait("counts").value
    (sleeps,) = stage.sink.wait_spans(1, where=lambda span: span.name == "run sleeps")
    assert sleeps.end / 1e9 - sent < waited < time.time() - before
    assert 0 <= wait("two").value < eta - 1
    assert wait("two").count == 1
    system = {"valkey": "redis", "rabbitmq": "rabbitmq"}[broker]
    queue = stage.variables["QUEUE"]
    labels = {"messaging.system": system, "celery.task.name": "two", "messaging.destination.name": queue}
    assert wait("two").attributes == labels
    worker.stop()
