"""The failure to prevent: two IDs for one request. One request is followed through every hop of the whole path."""

from __future__ import annotations

import json

import httpx
import pytest

from otel_cc.local.postgres import Postgres
from otel_cc.local.process import wait_until
from otel_cc.local.signals import Span
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch

FILES = {
    "tasks.py": """
import logging
import os

import sqlalchemy as sa
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
engine = sa.create_engine(os.environ["DATABASE"])
log = logging.getLogger("tasks")


@app.task(name="invoice", bind=True, max_retries=1, default_retry_delay=0)
def invoice(self, number: int) -> None:
    log.warning("invoicing")
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 'task', CAST(:n AS integer)"), {"n": number})
    if self.request.retries == 0:
        raise self.retry()
""",
    "app.py": """
import logging
import os

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from tasks import invoice

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE"])
log = logging.getLogger("shop")


@app.post("/orders/{number}")
async def order(number: int) -> None:
    log.warning("ordering")
    async with engine.begin() as connection:
        await connection.execute(sa.text("SELECT 'api', CAST(:n AS integer)"), {"n": number})
        await connection.execute(sa.text("SELECT 'api again', CAST(:n AS integer)"), {"n": number})
    invoice.delay(number)
    raise ValueError("after all")
""",
}
MODES = {
    "own": {},
    "contrib": {"OTEL_CC_INSTRUMENTATION": "contrib"},
    "none": {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
    "unsampled": {"OTEL_TRACES_SAMPLER": "always_off"},
}


def tree(spans: list[Span]) -> list[tuple[str, str, str | None]]:
    """Each span as (name, kind, name of its parent), in order of start."""
    names = {span.span_id: span.name for span in spans}
    return [
        (span.name, span.kind, names.get(span.parent_id or "")) for span in sorted(spans, key=lambda span: span.start)
    ]


OWN_TREE = [
    ("POST /orders/{number}", "SERVER", None),
    ("SELECT {db}", "CLIENT", "POST /orders/{number}"),
    ("SELECT {db}", "CLIENT", "POST /orders/{number}"),
    ("publish invoice", "PRODUCER", "POST /orders/{number}"),
    ("run invoice", "CONSUMER", "publish invoice"),
    ("SELECT {db}", "CLIENT", "run invoice"),
    ("publish invoice", "PRODUCER", "run invoice"),
    ("run invoice", "CONSUMER", "publish invoice"),
    ("SELECT {db}", "CLIENT", "run invoice"),
]


@pytest.mark.parametrize("mode", MODES)
def test_one_request_has_one_id_at_every_hop(
    launch: Launch, sink: Sink, postgres: Postgres, valkey: Valkey, mode: str
) -> None:
    env = {
        **MODES[mode],
        "BROKER": valkey.url,
        "DATABASE": postgres.sqlalchemy("psycopg"),
        "OTEL_CC_SQL_COMMENT": "always",
        "OTEL_CC_LOG_FORMAT": "json",
    }
    worker = launch.worker("--pool", "solo", files=FILES, env=env)
    server = launch.uvicorn(files=FILES, env=env)
    request_id = f"order-42/{mode}"
    response = httpx.post(server.url + "/orders/7", headers={"X-Request-ID": request_id}, timeout=30)

    def statements() -> list[str]:
        return [s.sql for s in postgres.statements() if f"request_id='order-42/{mode}'" in s.sql]

    # The statements of the API, and one for each of the two runs of the task.
    wait_until(lambda: len(statements()) >= 4, 60, "the statements")
    server.process.stop()
    worker.stop(timeout=60)

    assert response.status_code == 500
    assert response.headers.get_list("x-request-id") == [request_id]
    assert response.json() == {"detail": "Internal Server Error", "request_id": request_id}

    found = statements()
    assert [sql.split("SELECT '")[1].split("'")[0] for sql in found] == ["api", "api again", "task", "task"]

    lines = [
        json.loads(line)
        for process in (server.process, worker)
        for line in process.output().splitlines()
        if line.startswith("{")
    ]
    messages = {line["message"].split(":")[0]: line["request_id"] for line in lines}
    access = next(line for line in lines if line["logger"] == "uvicorn.access")
    crash = next(line for line in lines if "Exception in ASGI application" in line["message"])
    assert {messages["ordering"], messages["invoicing"], access["request_id"], crash["request_id"]} == {request_id}
    trace_ids = {line["trace_id"] for line in lines if line["request_id"] == request_id}

    spans = sink.spans()
    if mode in ("own", "contrib"):
        assert {span.attributes["request.id"] for span in spans} == {request_id}
        assert {span.trace_id for span in spans} == trace_ids
        assert len(trace_ids) == 1
        assert all(f"traceparent='00-{spans[0].trace_id}-" in sql for sql in found)
    else:
        assert spans == []
        assert all("traceparent" not in sql for sql in found)
    if mode == "own":
        database = next(span.attributes["db.namespace"] for span in spans if span.kind == "CLIENT")
        # Which of these connect for the first time depends on which child of the pool runs the task.
        spans = [span for span in spans if span.attributes.get("db.operation.name") != "CONNECT"]
        assert tree(spans) == [
            (name.format(db=database, number="{number}"), kind, parent) for name, kind, parent in OWN_TREE
        ]
    if mode == "unsampled":
        assert len(trace_ids) == 1
