"""Every pool: tasks run under the launcher, one trace, one ID, and nothing is lost at the end."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.celery.conftest import Play, Stage
from tests.celery.test_shutdown import SLOW_EXPORT, deliver

POOLS = ["solo", "threads", "gevent", "eventlet"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_runs_tasks_with_their_ids_and_delivers_everything_at_the_end(
    play: Play, stages: Callable[..., Stage], pool: str
) -> None:
    stage = stages("valkey", **SLOW_EXPORT)
    worker = stage.worker("--pool", pool, "--concurrency", "4")
    driver = stage.driver(OTEL_BSP_SCHEDULE_DELAY="200")
    answers = {number: driver("retry", request_id=f"order-{number}") for number in range(2)}
    for number, answer in answers.items():
        assert (answer["result"]["request_id"], answer["result"]["trace_id"]) == (
            f"order-{number}",
            answer["trace_id"],
        )
    deliver(stage, driver, worker, signal.SIGTERM)
    for number, answer in answers.items():
        spans = stage.check(
            answer["trace_id"],
            """
            request
              publish again
                run again RETRY
                  publish again
                    run again RETRY
                      publish again
                        run again
            """,
        )
        assert {span.attributes.get("request.id") for span in spans if span.name != "request"} == {f"order-{number}"}
