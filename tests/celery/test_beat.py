"""Beat: every tick is a trace of its own, and the last one arrives too."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from otel_cc.local.otlp import Span
from otel_cc.local.process import says, wait_until
from tests.celery.conftest import PROGRAM, Stage, tree
from tests.celery.test_endings import SLOW

TICK = "publish one\n  run one"


def ticks(stage: Stage) -> list[str]:
    traces: dict[str, list[Span]] = {}
    for span in stage.sink.spans():
        traces.setdefault(span.trace_id, []).append(span)
    return [tree(spans) for spans in traces.values()]


def test_each_tick_is_a_trace_and_none_is_lost_at_the_end(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker("--pool", "solo")
    beat = stage.launch(
        ["celery", "-A", "tasks", "beat", "--schedule", str(tmp_path / "schedule"), "--loglevel", "INFO"],
        name="beat",
        cwd=PROGRAM,
        env={**stage.variables, "BEAT": "1"},
        ready=says(r"(?s)(Sending due task.*){3}"),
    )
    assert beat.stop(signal.SIGTERM) == 0
    sent = beat.output().count("Sending due task")
    # It is gone from the queue: the worker takes what is left of it before it ends.
    stage.sink.wait_spans(sent, 5, lambda span: span.name == "publish one")
    worker.stop(signal.SIGTERM)
    published = [span for span in stage.sink.spans() if span.name == "publish one"]
    assert len(published) == sent
    assert ticks(stage) == [TICK] * sent
    assert len({span.attributes["request.id"] for span in stage.sink.spans() if span.name == "run one"}) == sent
    assert "in celery beat process" in beat.output()


def test_beat_inside_a_worker_delivers_its_spans_too(stages: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stages("valkey", **SLOW)
    worker = stage.worker(
        *("--pool", "prefork", "--concurrency", "1", "--beat", "--schedule", str(tmp_path / "schedule")),
        BEAT="1",
    )
    wait_until(lambda: worker.output().count("Task one[") >= 4, 10, "beat has sent tasks")
    worker.stop(signal.SIGTERM)
    sent = worker.output().count("Scheduler: Sending due task")
    assert len([span for span in stage.sink.spans() if span.name == "publish one"]) == sent
