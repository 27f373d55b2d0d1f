"""The measured application: a small JSON endpoint, and one with three statements for each database driver."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.workload.tables import DRIVERS, items, postgres_url, sqlite_url

STATEMENTS = 3
_query = select(items.c.id, items.c.name, items.c.val)


def build() -> FastAPI:
    """The application; ``BENCH_PAIR`` adds the middlewares of the pair."""
    app = FastAPI()

    @app.get("/json")
    async def small() -> dict[str, Any]:
        return {"status": "ok", "name": "widget", "tags": ["a", "b"], "price": 12.5}

    if os.environ.get("BENCH_SQLITE"):
        _sync(app, "sqlite", create_engine(sqlite_url()))
    if os.environ.get("BENCH_POSTGRES"):
        for name in DRIVERS:
            if name in ("psycopg2", "psycopg"):
                _sync(app, name, create_engine(postgres_url(name)))
            else:
                _async(app, name, create_async_engine(postgres_url(name)))
    if os.environ.get("BENCH_PAIR"):
        _pair(app)
    return app


def path(workload: str) -> str:
    """The path of a workload's endpoint."""
    return f"/{workload.replace(' ', '-')}"


def _sync(app: FastAPI, name: str, engine: Engine) -> None:
    # In the event loop on purpose: the hop to a worker thread would be the same noise in every variant.
    @app.get(path(name))
    async def three() -> dict[str, Any]:
        with engine.connect() as connection:
            rows = [connection.execute(_query.where(items.c.id == i)).one() for i in range(STATEMENTS)]
        return {"names": [row.name for row in rows]}


def _async(app: FastAPI, name: str, engine: AsyncEngine) -> None:
    @app.get(path(name))
    async def three() -> dict[str, Any]:
        async with engine.connect() as connection:
            rows = [(await connection.execute(_query.where(items.c.id == i))).one() for i in range(STATEMENTS)]
        return {"names": [row.name for row in rows]}


def _pair(app: FastAPI) -> None:
    from asgi_correlation_id import CorrelationIdMiddleware
    from prometheus_fastapi_instrumentator import Instrumentator

    app.add_middleware(CorrelationIdMiddleware)
    Instrumentator().instrument(app).expose(app)
