"""The tasks of the truth: one for each outcome. Each says how it will end just before it does."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import ledger
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from opentelemetry import trace
from sqlalchemy import create_engine
from statements import Counting

app = Celery("truth", broker=os.environ["TRUTH_BROKER"])
app.conf.update(
    task_default_queue="truth",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # Celery kills a new child that says nothing for four seconds, and loses the task that it was given.
    worker_proc_alive_timeout=60,
    beat_schedule={"tick": {"task": "tick", "schedule": 1.0}},
)
database = create_engine(os.environ["TRUTH_DATABASE"] + "tasks?application_name=tasks", pool_size=1, max_overflow=0)


class Broken(Exception):
    """An exception class of the application's own."""


def starts(task: Any) -> None:
    ledger.note("started", task.name, task.request.delivery_info["routing_key"])


def ends(task: Any, state: str, error: str = "") -> None:
    ledger.note("ended", task.name, task.request.delivery_info["routing_key"], state, error)


@app.task(name="succeeds", bind=True)
def succeeds(self: Any) -> None:
    starts(self)
    ends(self, "SUCCESS")


@app.task(name="tick", bind=True)
def tick(self: Any) -> None:
    starts(self)
    ends(self, "SUCCESS")


@app.task(name="fails", bind=True)
def fails(self: Any) -> None:
    starts(self)
    ends(self, "FAILURE", "ValueError")
    raise ValueError("no")


@app.task(name="breaks", bind=True)
def breaks(self: Any) -> None:
    starts(self)
    ends(self, "FAILURE", "tasks.Broken")
    raise Broken("no")


@app.task(name="retries", bind=True, max_retries=2)
def retries(self: Any) -> None:
    starts(self)
    if self.request.retries < 2:
        ends(self, "RETRY", "KeyError")
        ledger.note("published", self.name, "truth", "")
        raise self.retry(exc=KeyError("not yet"), countdown=0)
    ends(self, "SUCCESS")


@app.task(name="gives_up", bind=True, max_retries=1)
def gives_up(self: Any) -> None:
    starts(self)
    if self.request.retries < 1:
        ends(self, "RETRY", "KeyError")
        ledger.note("published", self.name, "truth", "")
    else:
        ends(self, "FAILURE", "KeyError")
    raise self.retry(exc=KeyError("never"), countdown=0)


@app.task(name="nests", bind=True)
def nests(self: Any) -> None:
    starts(self)
    ledger.note("published", "succeeds", "truth", "")
    succeeds.delay()
    ends(self, "SUCCESS")


@app.task(name="rejects", bind=True, acks_late=True)
def rejects(self: Any) -> None:
    starts(self)
    ends(self, "REJECTED")
    raise Reject("no", requeue=False)


@app.task(name="ignores", bind=True)
def ignores(self: Any) -> None:
    starts(self)
    ends(self, "IGNORED")
    raise Ignore


@app.task(name="exits", bind=True)
def exits(self: Any) -> None:
    starts(self)
    ends(self, "LOST", "SystemExit")
    raise SystemExit(3)


@app.task(name="soft", bind=True, soft_time_limit=0.3)
def soft(self: Any) -> None:
    starts(self)
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        ends(self, "FAILURE", "billiard.exceptions.SoftTimeLimitExceeded")
        raise


def is_killed() -> None:
    """Note the process: it ends before it can report what it did last."""
    ledger.note("killed", trace.get_tracer_provider().resource.attributes["service.instance.id"])  # type: ignore[attr-defined]  # the SDK's


# Celery's pool kills a child 0.1 s after its hard limit, often before it could report: by then it has, a few times.
@app.task(name="hard", bind=True, time_limit=6)
def hard(self: Any) -> None:
    starts(self)
    is_killed()
    ends(self, "FAILURE", "billiard.exceptions.TimeLimitExceeded")
    time.sleep(30)


@app.task(name="terminated", bind=True)
def terminated(self: Any) -> None:
    starts(self)
    is_killed()
    ends(self, "REVOKED")
    ledger.note("terminate", self.request.id)
    time.sleep(30)


@app.task(name="waits", bind=True)
def waits(self: Any) -> None:
    # Until its worker is killed.
    starts(self)
    time.sleep(30)


@app.task(name="dies", bind=True)
def dies(self: Any) -> None:
    starts(self)
    ends(self, "LOST", "billiard.exceptions.WorkerLostError")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="poison", bind=True, acks_late=True, reject_on_worker_lost=True)
def poison(self: Any) -> None:
    starts(self)
    if not self.request.delivery_info["redelivered"]:
        ends(self, "LOST", "billiard.exceptions.WorkerLostError")
        os.kill(os.getpid(), signal.SIGKILL)
    ends(self, "SUCCESS")


@app.task(name="sql", bind=True)
def sql(self: Any) -> None:
    starts(self)
    ledger.note("checkout", "tasks")
    with database.connect() as connection, Counting(connection, "tasks") as counting:
        counting.execute("INSERT INTO truth_added (value) VALUES (:value)", value=1)
        counting.commit()
    ends(self, "SUCCESS")
