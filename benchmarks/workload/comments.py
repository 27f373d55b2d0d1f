"""What the SQL comment costs: the same process, one engine for each setting, in turns and in a random order.

``python -m benchmarks.workload.comments psycopg2`` runs under the launcher with otel-cc. An order ``{"count": 20}``
makes 20 requests; in each of them every engine runs one transaction of :data:`STATEMENTS` primary-key selects, in a
random order, and the answer is the median time of each engine in microseconds per statement.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.workload import asgi
from benchmarks.workload.tables import items, postgres_url

STATEMENTS = 10
# The second "off" is the control: its ratio to the first one is the noise.
SETTINGS = {"off": "off", "control": "off", "auto": "auto", "always": "always"}
_query = select(items.c.id, items.c.name, items.c.val)

Transaction = Callable[[], Awaitable[None]]


def _blocking(driver: str) -> Transaction:
    engine = create_engine(postgres_url(driver))

    async def transaction() -> None:
        with engine.begin() as connection:
            for i in range(STATEMENTS):
                connection.execute(_query.where(items.c.id == i)).one()

    return transaction


def _awaiting(driver: str) -> Transaction:
    engine = create_async_engine(postgres_url(driver))

    async def transaction() -> None:
        async with engine.begin() as connection:
            for i in range(STATEMENTS):
                (await connection.execute(_query.where(items.c.id == i))).one()

    return transaction


def build(driver: str, samples: dict[str, list[float]]) -> FastAPI:
    """An application whose one endpoint times a transaction of each engine."""
    # The only import of ours in a workload: the switch that each statement reads.
    from otel_cc.sql.switches import switches

    make = _blocking if driver in ("psycopg2", "psycopg") else _awaiting
    # An engine for each: the drivers' caches of prepared statements must not be shared.
    transactions = [(name, setting, make(driver)) for name, setting in SETTINGS.items()]
    app = FastAPI()

    @app.get("/turn")
    async def turn() -> dict[str, str]:
        for name, setting, transaction in random.sample(transactions, len(transactions)):
            switches.comments = setting
            begin = time.perf_counter()
            await transaction()
            samples[name].append((time.perf_counter() - begin) / STATEMENTS * 1e6)
        return {}

    return app


async def serve(driver: str) -> None:
    """Answer until the input ends."""
    samples: dict[str, list[float]] = {name: [] for name in SETTINGS}
    app = build(driver, samples)
    async with asgi.Lifespan(app):
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            await asgi.call(app, asgi.requests("/turn", json.loads(line)["count"]))
            print(json.dumps({name: statistics.median(values) for name, values in samples.items()}), flush=True)
            for values in samples.values():
                values.clear()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
