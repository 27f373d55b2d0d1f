"""The application of the truth: an endpoint for every outcome. It knows nothing of telemetry and counts for itself."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ledger
import tasks
from celery import Celery
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.routing import Mount, Route
from statements import SCENARIOS, Counting, lock

DATABASE = os.environ["TRUTH_DATABASE"]
# What a pool may have; small, so that it is full now and then.
POOL: dict[str, Any] = {"pool_size": 3, "max_overflow": 2, "pool_timeout": 60}
TIGHT: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
CHUNKS = (b"one ", b"two ", b"three")
LARGE = b"x" * 100_000

engines: dict[str, Engine] = {}
async_engines: dict[str, AsyncEngine] = {}
one_at_a_time = threading.Lock()


def url(driver: str, name: str) -> str:
    return DATABASE.replace("psycopg", driver, 1) + name


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    names = {"application_name": "sync"}, {"application_name": "tight"}
    engines["sync"] = create_engine(url("psycopg", "sync"), connect_args=names[0], pool_logging_name="sync", **POOL)
    engines["tight"] = create_engine(
        url("psycopg2", "tight"), connect_args=names[1], pool_logging_name="tight", **TIGHT
    )
    engines["nowhere"] = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere", pool_logging_name="nowhere")
    settings = {"server_settings": {"application_name": "async"}}
    async_engines["async"] = create_async_engine(
        url("asyncpg", "async"), connect_args=settings, pool_logging_name="async", **POOL
    )
    note_resources(-1)
    yield
    for engine in engines.values():
        engine.dispose()
    for async_engine in async_engines.values():
        await async_engine.dispose()
    note_resources(1)


def note_resources(sign: int) -> None:
    """What this process has used so far, in milliseconds; with -1 where only what comes later counts."""
    for generation, stats in enumerate(gc.get_stats()):
        ledger.note("gc", generation, amount=sign * stats["collections"])
    ledger.note("served", amount=sign * int(time.monotonic() * 1000))
    if sign > 0:
        used = resource.getrusage(resource.RUSAGE_SELF)
        ledger.note("cpu", "user", amount=int(used.ru_utime * 1000))
        ledger.note("cpu", "system", amount=int(used.ru_stime * 1000))


app = FastAPI(lifespan=lifespan)


class Handled(Exception):
    """Turned into a response by a handler of the application's own."""


class Unhandled(Exception):
    """Turned into a response by nobody."""


class Item(BaseModel):
    name: str


@app.exception_handler(Handled)
async def handled(request: Request, error: Handled) -> JSONResponse:
    return JSONResponse({"mine": str(error)}, status_code=503)


@app.get("/async")
async def get_async() -> dict[str, bool]:
    return {"ok": True}


@app.get("/sync")
def get_sync() -> dict[str, bool]:
    return {"ok": True}


@app.head("/head")
async def head() -> JSONResponse:
    return JSONResponse({"ok": True})


@app.get("/items/{number}")
async def item(number: int) -> dict[str, int]:
    return {"number": number}


@app.get("/missing/{number}")
async def missing(number: int) -> None:
    raise HTTPException(404, "no such thing")


@app.get("/teapot")
async def teapot() -> None:
    raise HTTPException(503, "later")


@app.post("/validated")
async def validated(item: Item) -> Item:
    return item


@app.get("/unhandled")
async def unhandled() -> None:
    raise Unhandled("nobody")


@app.get("/unhandled-sync")
def unhandled_sync() -> None:
    raise ValueError("nobody")


@app.get("/handled")
async def raise_handled() -> None:
    raise Handled("somebody")


@app.get("/plain/{status}")
async def plain(status: int) -> Response:
    return Response(b"" if status == 204 else b"plain", status)


@app.get("/large")
async def large() -> Response:
    return Response(LARGE)


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk

    return StreamingResponse(chunks())


@app.get("/broken")
async def broken() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield CHUNKS[0]
        await asyncio.sleep(0)
        raise Unhandled("in the middle")

    return StreamingResponse(chunks())


@app.get("/watched")
async def watched(request: Request) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110  polling is what is tested
        await asyncio.sleep(0.01)
    ledger.note("left", "/watched")


@app.get("/unwatched")
async def unwatched() -> None:
    # Much longer than a client takes to leave, also on a busy machine.
    await asyncio.sleep(5)


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield LARGE
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


@app.get("/background")
async def background(background_tasks: BackgroundTasks) -> dict[str, bool]:
    async def work() -> None:
        await asyncio.sleep(0.1)
        ledger.note("background")

    background_tasks.add_task(work)
    return {"ok": True}


@app.get("/background-fails")
async def background_fails(background_tasks: BackgroundTasks) -> dict[str, bool]:
    async def work() -> None:
        ledger.note("background")
        raise Unhandled("afterwards")

    background_tasks.add_task(work)
    return {"ok": True}


@app.post("/echo")
async def echo(request: Request) -> dict[str, int]:
    body = await request.body()
    ledger.note("body", "/echo", amount=len(body))
    return {"bytes": len(body)}


@app.post("/unread")
async def unread() -> dict[str, bool]:
    return {"ok": True}


@app.get("/blocks")
async def blocks() -> dict[str, bool]:
    began = time.monotonic()
    time.sleep(1.0)  # noqa: ASYNC251  # that is what is measured
    ledger.note("blocked", amount=int((time.monotonic() - began) * 1000))
    return {"ok": True}


# Databases.


def run(name: str, connection: Any, scenario: str) -> str:
    """One scenario; what goes wrong is its answer."""
    try:
        with Counting(connection, name) as counting:
            SCENARIOS[scenario](counting)
    except DBAPIError as error:
        return type(error).__name__
    return ""


@app.get("/sql/sync/{scenario}")
def sql_sync(scenario: str) -> str:
    with engines["sync"].connect() as connection:
        ledger.note("checkout", "sync")
        return run("sync", connection, scenario)


@app.get("/sql/async/{scenario}")
async def sql_async(scenario: str) -> str:
    async with async_engines["async"].connect() as connection:
        ledger.note("checkout", "async")
        return await connection.run_sync(lambda inner: run("async", inner, scenario))


@app.get("/sql/tight")
def sql_tight() -> str:
    """A pool that is full: a second caller gets nothing."""
    with one_at_a_time, engines["tight"].connect() as connection:
        ledger.note("checkout", "tight")
        with Counting(connection, "tight") as counting:
            counting.execute("SELECT number FROM truth LIMIT 1")
            try:
                engines["tight"].connect()
            except TimeoutError:
                ledger.note("timeout", "tight")
                return "timeout"
    return "no timeout"


@app.get("/sql/nowhere")
def sql_nowhere() -> str:
    try:
        engines["nowhere"].connect()
    except OperationalError as error:
        ledger.note("sql", "nowhere", "connect", ledger.name(error.orig or error))
        return "nowhere"
    return "somewhere"


@app.get("/sql/deadlock")
def sql_deadlock() -> int:
    """Two transactions that wait for each other; the database ends one of them."""
    both_have_one = threading.Barrier(2, timeout=60)
    victims = []

    def half(first: int, second: int) -> None:
        with engines["sync"].connect() as connection:
            ledger.note("checkout", "sync")
            try:
                with Counting(connection, "sync") as counting:
                    lock(counting, first)
                    both_have_one.wait()
                    lock(counting, second)
            except DBAPIError:
                victims.append(first)

    with one_at_a_time:
        # Two workers must not lock the same rows; each has its own.
        row = os.getpid() % 49 * 2 + 1
        other = threading.Thread(target=half, args=(row + 1, row))
        other.start()
        half(row, row + 1)
        other.join()
    return len(victims)


# Tasks.

nowhere = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
nowhere.conf.update(
    task_publish_retry=False,
    task_default_queue="truth",
    broker_transport_options={"max_retries": 0, "socket_connect_timeout": 1},
)


@app.post("/publish/{name}")
def publish(name: str, queue: str = "truth", task_id: str | None = None) -> str:
    options: dict[str, Any] = {"queue": queue}
    if task_id is not None:
        options["task_id"] = task_id
    if name == "expires":
        name, options["expires"] = "succeeds", -1
        ledger.note("expired", name)
    elif name == "eta":
        name, options["countdown"] = "succeeds", 0.2
    if name == "unreachable":
        try:
            nowhere.send_task("succeeds", retry=False, **options)
        except Exception as error:
            ledger.note("published", "succeeds", queue, ledger.name(error))
        return ""
    ledger.note("published", name, queue, "")
    return str(tasks.app.send_task(name, **options).id)


@app.post("/revoke")
def revoke(task_ids: list[str], terminate: bool = False) -> list[Any]:
    # It returns when the worker knows it.
    return tasks.app.control.revoke(task_ids, ["ordinary@truth"], terminate=terminate, reply=True, timeout=30) or []  # type: ignore[no-any-return]


# WebSockets.


@app.websocket("/ws/echo/{room}")
async def ws_echo(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/ws/closes/{code}")
async def ws_closes(websocket: WebSocket, code: int) -> None:
    await websocket.accept()
    await websocket.close(code)


@app.websocket("/ws/refuses")
async def ws_refuses(websocket: WebSocket) -> None:
    await websocket.close(4003)


@app.websocket("/ws/crashes")
async def ws_crashes(websocket: WebSocket) -> None:
    await websocket.accept()
    raise Unhandled("nobody")


@app.websocket("/ws/crashes-early")
async def ws_crashes_early(websocket: WebSocket) -> None:
    raise Unhandled("nobody")


# Mounted applications and included routers.

router = APIRouter(prefix="/inner")


@router.get("/{leaf}")
async def included(leaf: str) -> str:
    return leaf


app.include_router(router, prefix="/outer")

mounted = FastAPI()


@mounted.get("/items/{number}")
async def mounted_item(number: int) -> int:
    return number


@mounted.get("/unhandled")
async def mounted_unhandled() -> None:
    raise Unhandled("in the mounted application")


@mounted.get("/missing")
async def mounted_missing() -> None:
    raise HTTPException(404, "in the mounted application")


@mounted.websocket("/ws")
async def mounted_ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


app.mount("/tenants/{tenant}", mounted)


async def leaf(request: Request) -> JSONResponse:
    return JSONResponse({"leaf": request.path_params["leaf"]})


app.router.routes.append(Mount("/starlette", routes=[Route("/{leaf}", leaf)]))
