"""Every way to send a task, on both brokers: one trace, one request ID, nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import celery
import pytest

from tests.celery.conftest import Play

PUBLISH_ONE = """
    request
      publish one
        run one
"""
RETRY = """
    request
      publish again
        run again RETRY
          publish again
            run again RETRY
              publish again
                run again
"""

SCENARIOS = {
    "delay": PUBLISH_ONE,
    "countdown": PUBLISH_ONE,
    "eta": PUBLISH_ONE,
    "by_name": PUBLISH_ONE,
    "by_name_unregistered": PUBLISH_ONE,
    "protocol_1": PUBLISH_ONE,
    "retry": RETRY,
    "with_baggage": RETRY,
    "protocol_1_retry": RETRY,
    "chained": """
        request
          publish one
            run one
              publish two
                run two
                  publish one
                    run one
    """,
    "grouped": """
        request
          publish one
            run one
          publish two
            run two
    """,
    "chorded": """
        request
          publish one
            run one
          publish one
            run one
              publish two
                run two
    """,
    "linked": """
        request
          publish one
            run one
              publish two
                run two
    """,
    "linked_to_failure": """
        request
          publish fails
            run fails ERROR ValueError FAILURE
              publish on_failure
                run on_failure
    """,
    "task_calling_task": """
        request
          publish parent
            run parent
              publish one
                run one
    """,
    "replaced": """
        request
          publish replaced
            run replaced IGNORED
              publish one
                run one
    """,
    "eager": """
        request
          run outer
            run one
    """,
    "always_eager": """
        request
          run parent
            run one
    """,
    "eager_retry": """
        request
          run again
          run again RETRY
          run again RETRY
    """,
    "eager_failure": """
        request
          run fails ERROR ValueError FAILURE
    """,
    "bad_arguments": """
        request
          publish one ERROR TypeError
    """,
}


@pytest.fixture(params=["valkey", "rabbitmq"])
def play(request: pytest.FixtureRequest, plays: Callable[[str], Play]) -> Play:
    return plays(request.param)


def ids(value: Any) -> set[str]:
    """All request IDs that tasks found, however deep they are in the result."""
    if isinstance(value, dict):
        own = {value["request_id"]} if "request_id" in value else set()
        return own.union(*map(ids, value.values()))
    return set().union(*map(ids, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_request_and_its_tasks_are_one_trace_with_one_request_id(play: Play, scenario: str) -> None:
    request_id = f"order-{scenario}"
    answer = play.driver(scenario, request_id=request_id)
    spans = play.stage.check(answer["trace_id"], SCENARIOS[scenario])
    assert {span.attributes.get("request.id") for span in spans if span.name != "request"} == {request_id}
    assert ids(answer["result"]) <= {request_id}
    assert answer["context_kept"]
    if scenario == "with_baggage":
        assert answer["result"]["baggage"] == {"tenant": "7"}


def test_the_spans_say_what_was_sent_where_and_what_came_of_it(play: Play, request: pytest.FixtureRequest) -> None:
    answer = play.driver("delay", request_id="order-42")
    _, publish, run = sorted(play.stage.trace(answer["trace_id"], 3), key=lambda span: span.start)
    task_id = run.attributes["messaging.message.id"]
    both = {
        "request.id": "order-42",
        "messaging.system": {"valkey": "redis", "rabbitmq": "rabbitmq"}[request.node.callspec.params["play"]],
        "messaging.destination.name": play.stage.variables["QUEUE"],
        "messaging.message.id": task_id,
        "celery.task.name": "one",
    }
    assert (publish.name, publish.kind, publish.scope, publish.status, publish.attributes) == (
        "publish one",
        "PRODUCER",
        "otel_cc.celery",
        "UNSET",
        {**both, "messaging.operation.name": "publish", "messaging.operation.type": "send"},
    )
    assert run.attributes.pop("celery.worker.name").startswith("celery@")
    assert (run.name, run.kind, run.scope, run.status, run.attributes) == (
        "run one",
        "CONSUMER",
        "otel_cc.celery",
        "UNSET",
        {
            **both,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "celery.task.state": "SUCCESS",
        },
    )
    assert publish.start <= publish.end
    assert run.start >= publish.start


def test_a_task_finds_its_request_and_its_own_name(play: Play) -> None:
    answer = play.driver("delay", request_id="order-42")
    assert answer["result"] == {
        "request_id": "order-42",
        "root_trace_id": answer["trace_id"],
        "tags": {"task": "one", "framework": f"celery:{celery.__version__}"},
        "trace_id": answer["trace_id"],
        "baggage": {},
    }


def test_publish_and_run_are_measured(play: Play) -> None:
    play.driver("retry", request_id="order-42")
    play.driver("bad_arguments", request_id="order-42")
    queue = play.stage.variables["QUEUE"]

    def measured(name: str) -> set[tuple[str, ...]]:
        return {
            tuple(str(point.attributes.get(key)) for key in keys)
            for point in play.stage.sink.latest(name)
            if point.attributes["celery.task.name"] in ("one", "again")
        }

    keys = ("messaging.operation.name", "celery.task.name", "messaging.destination.name", "error.type")
    wanted = {("publish", "again", queue, "None"), ("publish", "one", "None", "TypeError")}
    play.stage.sink.wait_metric(
        "messaging.client.operation.duration", where=lambda point: point.attributes.get("error.type") == "TypeError"
    )
    assert wanted <= measured("messaging.client.operation.duration")
    keys = ("messaging.operation.name", "celery.task.name", "messaging.destination.name", "celery.task.state")
    play.stage.sink.wait_metric(
        "messaging.process.duration",
        where=lambda point: (
            point.attributes["celery.task.name"] == "again" and point.attributes["celery.task.state"] == "SUCCESS"
        ),
    )
    wanted = {("process", "again", queue, state) for state in ("RETRY", "SUCCESS")}
    assert wanted <= measured("messaging.process.duration")


def test_the_sql_of_a_task_carries_the_id_of_the_request(play: Play) -> None:
    answer = play.driver("sql", request_id="order-42")
    found, statements = answer["result"]
    assert found["request_id"] == "order-42"
    assert len(statements) == 1
    assert "request_id='order-42'" in statements[0]
    assert "task='sql'" in statements[0]
    assert answer["trace_id"] in statements[0]


@pytest.mark.parametrize("attempt", range(2))
def test_a_failed_publish_leaves_its_span_and_nothing_else(play: Play, attempt: int) -> None:
    answer = play.driver("broker_down", request_id="order-42")
    assert answer["result"] == {"raised": "OperationalError", "current_span_kept": True}
    assert answer["context_kept"]
    play.stage.check(
        answer["trace_id"],
        """
        request
          publish one ERROR kombu.exceptions.OperationalError
        """,
    )
