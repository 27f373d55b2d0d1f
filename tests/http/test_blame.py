"""The route that holds the event loop is named by a look at its thread's stack, from another thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from otel_cc.http.blame import route_of_frame
from tests.http.measured import Client, Measured

# An endpoint holds the loop until the test has looked.
blocked, looked = threading.Event(), threading.Event()


def block() -> None:
    blocked.set()
    looked.wait(60)


def build(*, middleware: bool) -> FastAPI:
    app = FastAPI()

    @app.get("/items/{number}")
    async def endpoint(number: int) -> None:
        block()

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> None:
        async def work() -> None:
            block()

        tasks.add_task(work)

    async def passes(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    if middleware:
        app.add_middleware(BaseHTTPMiddleware, dispatch=passes)
    return app


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize(("path", "route"), [("/items/7", "/items/{number}"), ("/background", "/background")])
def test_the_route_that_blocks_is_named(measured: Measured, path: str, route: str, middleware: bool) -> None:
    app = build(middleware=middleware)
    blocked.clear()
    looked.clear()
    found: list[str | None] = []
    loop_thread = threading.get_ident()

    def look() -> None:
        assert blocked.wait(60)
        found.append(route_of_frame(sys._current_frames()[loop_thread]))
        looked.set()

    async def serve() -> None:
        class Patient(Client):
            async def receive(self) -> Any:
                await asyncio.sleep(3600)

        # A request that waits meanwhile is not to blame.
        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(3600)

        other = asyncio.create_task(measured(waits))
        await asyncio.sleep(0)
        await measured(
            app, Patient(), path=path, raw_path=path.encode(), root_path="", query_string=b"", server=("127.0.0.1", 80)
        )
        other.cancel()

    watcher = threading.Thread(target=look)
    watcher.start()
    asyncio.run(serve())
    watcher.join()
    assert found == [route]


def test_what_holds_the_loop_outside_of_a_request_has_no_route() -> None:
    scope = {"type": "http"}
    assert route_of_frame(sys._getframe()) is None
    assert scope


def test_a_deep_stack_is_given_up() -> None:
    def dive(depth: int) -> str | None:
        return dive(depth - 1) if depth else route_of_frame(sys._getframe())

    began = time.thread_time()
    assert dive(800) is None
    assert time.thread_time() - began < 1
