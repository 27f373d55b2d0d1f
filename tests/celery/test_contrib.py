"""With ``OTEL_CC_INSTRUMENTATION=contrib`` the spans are contrib's, and the carriers work the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.celery.conftest import Play, Stage

SCENARIOS = {
    "delay": """
        request
          apply_async/one
            run/one
    """,
    "by_name": """
        request
          apply_async/one
            run/one
    """,
    "protocol_1": """
        request
          apply_async/one
            run/one
    """,
    "retry": """
        request
          apply_async/again
            run/again
              apply_async/again
                run/again
                  apply_async/again
                    run/again
    """,
    "protocol_1_retry": """
        request
          apply_async/again
            run/again
              apply_async/again
                run/again
                  apply_async/again
                    run/again
    """,
    "chained": """
        request
          apply_async/one
            run/one
              apply_async/two
                run/two
                  apply_async/one
                    run/one
    """,
    "task_calling_task": """
        request
          apply_async/parent
            run/parent
              apply_async/one
                run/one
    """,
    "eager": """
        request
          run/outer
            run/one
    """,
}


@pytest.fixture(scope="module")
def play(stages: Callable[..., Stage]) -> Play:
    stage = stages("valkey", OTEL_CC_INSTRUMENTATION="contrib", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis")
    return stage.play("--pool", "threads", "--concurrency", "2")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_contribs_spans_are_one_trace_and_the_tasks_find_the_id(play: Play, scenario: str) -> None:
    answer = play.driver(scenario, request_id="order-42")
    spans = play.stage.check(answer["trace_id"], SCENARIOS[scenario])
    assert {span.scope for span in spans} == {"request", "opentelemetry.instrumentation.celery"}
    results = answer["result"] if isinstance(answer["result"], list) else [answer["result"]]
    assert {(found["request_id"], found["trace_id"]) for found in results} == {("order-42", answer["trace_id"])}
    assert answer["context_kept"]


def test_a_task_outside_of_a_request_leaves_nothing_behind_in_the_worker(play: Play) -> None:
    """Each is a trace of its own: contrib's detach must not bring our context of an earlier task back."""
    found = [play.driver("delay")["result"] for _ in range(6)]
    assert len({one["trace_id"] for one in found}) == 6
    assert all(one["request_id"] == one["trace_id"] for one in found)


def test_the_sql_of_a_task_carries_the_id_of_the_request(play: Play) -> None:
    _, statements = play.driver("sql", request_id="order-42")["result"]
    assert len(statements) == 1
    assert "request_id='order-42'" in statements[0]
    assert "task='sql'" in statements[0]
