"""The raw ASGI driver: calls an application the way a server does, with neither server nor client around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

App = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

_HEADERS = [
    (b"host", b"shop.example:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
]


def requests(path: str, count: int) -> list[dict[str, Any]]:
    """Scopes of ``count`` GET requests, each with a request ID of its own, as a proxy would send them."""
    return [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50123),
            "scheme": "http",
            "method": "GET",
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*_HEADERS, (b"x-request-id", str(uuid4()).encode())],
            "state": {},
        }
        for _ in range(count)
    ]


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    if message["type"] == "http.response.start" and message["status"] != 200:
        raise RuntimeError(f"the measured application answered {message['status']}")


async def call(app: App, scopes: list[dict[str, Any]]) -> None:
    """Send the requests one after the other, each in a task of its own, as uvicorn does."""
    create_task = asyncio.get_running_loop().create_task
    for scope in scopes:
        await create_task(app(scope, _receive, _send))  # type: ignore[arg-type]  # an ASGI application is a coroutine function


class Lifespan:
    """The application's lifespan, for code that waits for its events."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.ensure_future(self._app(scope, self._events.get, self._answers.put))
        await self._step("startup")

    async def __aexit__(self, *_: object) -> None:
        await self._step("shutdown")
        await self._task

    async def _step(self, name: str) -> None:
        await self._events.put({"type": f"lifespan.{name}"})
        answer = await self._answers.get()
        if answer["type"] != f"lifespan.{name}.complete":
            raise RuntimeError(f"the measured application answered {answer}")
