"""The tasks of the tests; what a task finds, it returns."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from opentelemetry import baggage, trace

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    result_expires=600,
    # Celery kills a new child that says nothing for four seconds, and loses the task that it was given.
    worker_proc_alive_timeout=60,
)
if "QUORUM" in os.environ:
    # RabbitMQ delays a task with an eta itself.
    app.conf.update(task_default_queue_type="quorum", task_default_exchange_type="topic")
# Each is due at once, and then not for long: nobody ends beat in the middle of a publish.
TICK = {"task": "one", "schedule": 3600.0, "last_run_at": datetime.now(timezone.utc) - timedelta(days=1)}
app.conf.beat_schedule = {f"tick{number}": TICK for number in range(int(os.environ.get("BEAT", "0")))}


class Known(Exception):
    """An exception that a task may raise as a result."""


class Unsendable(Exception):
    """An exception that cannot be sent to another process."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.lock = [lambda: first + second]


def found() -> dict[str, Any]:
    """What the running task knows about its request."""
    try:
        from otel_cc.context import current
    except ImportError:
        return {}
    correlation = current()
    span = trace.get_current_span().get_span_context()
    return {
        "request_id": None if correlation is None else correlation.request_id,
        "root_trace_id": None if correlation is None else f"{correlation.trace_id:032x}",
        "tags": None if correlation is None else dict(correlation.tags()),
        "trace_id": f"{span.trace_id:032x}",
        "baggage": dict(baggage.get_all()),
    }


@app.task(name="one")
def one(*_: Any) -> dict[str, Any]:
    return found()


@app.task(name="two")
def two(*_: Any) -> dict[str, Any]:
    return found()


@app.task(name="on_failure")
def on_failure(task_id: str) -> dict[str, Any]:
    # With more arguments Celery would call it in place.
    return found()


@app.task(name="headers", bind=True)
def headers(self: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(self.request).items() if isinstance(value, str)}


@app.task(name="parent")
def parent() -> list[dict[str, Any]]:
    child = one.delay()
    return [found(), child.id]


@app.task(name="again", bind=True, max_retries=2)
def again(self: Any, **options: Any) -> dict[str, Any]:
    if self.request.retries < 2:
        raise self.retry(exc=KeyError("not yet"), countdown=0, **options)
    return found()


@app.task(name="elsewhere", bind=True)
def elsewhere(self: Any, queue: str) -> dict[str, Any]:
    if self.request.retries == 0:
        raise self.retry(countdown=0, queue=queue)
    return found()


@app.task(name="replaced", bind=True)
def replaced(self: Any) -> None:
    raise self.replace(one.s())


@app.task(name="fails")
def fails(text: str = "no") -> None:
    raise ValueError(text)


@app.task(name="throws", throws=(Known,))
def throws() -> None:
    raise Known("as expected")


@app.task(name="ignores")
def ignores() -> None:
    raise Ignore


@app.task(name="rejects", acks_late=True)
def rejects() -> None:
    raise Reject("no", requeue=False)


@app.task(name="exits")
def exits() -> None:
    raise SystemExit(3)


@app.task(name="limited", soft_time_limit=1)
def limited() -> None:
    time.sleep(10)


@app.task(name="hard", time_limit=1)
def hard() -> None:
    time.sleep(10)


@app.task(name="unsendable")
def unsendable() -> None:
    raise Unsendable(1, 2)


@app.task(name="requeues", bind=True, acks_late=True)
def requeues(self: Any) -> None:
    if count(self.request.id) == 1:
        raise Reject("not here", requeue=True)


@app.task(name="killed")
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="poison", bind=True, acks_late=True, reject_on_worker_lost=True)
def poison(self: Any) -> None:
    if count(self.request.id) <= 2:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="sleeps")
def sleeps(seconds: float, counter: str) -> None:
    count(counter)
    time.sleep(seconds)


@app.task(name="outer")
def outer() -> list[dict[str, Any]]:
    before = found()
    inside = one.apply().get()
    return [before, inside, found()]


@app.task(name="sql")
def sql() -> list[Any]:
    """The statements of the task as the database sees them."""
    from sqlalchemy import create_engine, event, text

    seen: list[str] = []
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "connect")
    def trace_statements(connection: sqlite3.Connection, _: object) -> None:
        connection.set_trace_callback(seen.append)

    with engine.connect() as connection:
        connection.execute(text("SELECT 42"))
    return [found(), [statement for statement in seen if "42" in statement]]


@app.task(name="counts")
def counts(counter: str) -> None:
    count(counter)


def count(counter: str) -> int:
    """Say where a test can see it that a task ran; return how often."""
    import redis

    client = redis.Redis.from_url(os.environ["BACKEND"])
    found: int = client.incr(counter)
    client.close()
    return found
