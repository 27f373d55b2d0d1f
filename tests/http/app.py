"""The application of the HTTP tests; it knows nothing of telemetry."""

import asyncio
import functools
import logging

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route

logging.basicConfig(format="%(message)s")
log = logging.getLogger("app")

app = FastAPI()


class Handled(Exception):
    """Turned into a response by a handler of the application's own."""


class Item(BaseModel):
    name: str


@app.exception_handler(Handled)
async def handled(request: Request, error: Handled) -> JSONResponse:
    return JSONResponse({"mine": str(error)}, status_code=int(str(error)))


async def add_nothing(request: Request, call_next):
    return await call_next(request)


class Strange:
    """Middleware as ASGI allows it: it hands on a copy of the scope, or turns what fails into an answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        query = scope.get("query_string", b"")
        try:
            await self.app(dict(scope) if query == b"copied" else scope, receive, send)
        except Exception:
            if query != b"caught":
                raise
            await JSONResponse({}, status_code=500)(scope, receive, send)


app.add_middleware(Strange)
app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
# Any callable will do, also one without a name.
app.add_middleware(functools.partial(BaseHTTPMiddleware, dispatch=add_nothing))


@app.get("/ok")
async def ok() -> dict:
    return {"ok": True}


@app.get("/headers")
async def headers(request: Request) -> dict:
    return {"seen": request.headers.getlist("x-request-id")}


@app.get("/sync/{number}")
def sync(number: int) -> dict:
    log.warning("in a thread")
    return {"number": number}


@app.post("/items")
async def items(item: Item) -> dict:
    return {}


@app.get("/missing")
async def missing() -> None:
    raise HTTPException(404, {"why": "no such thing"}, headers={"X-Extra": "kept"})


@app.get("/unavailable")
async def unavailable() -> None:
    raise HTTPException(503, "later")


@app.get("/empty")
async def empty() -> None:
    raise HTTPException(304)


@app.get("/handled/{status}")
async def raise_handled(status: int) -> None:
    raise Handled(status)


@app.get("/unhandled")
async def unhandled() -> None:
    raise ValueError("unhandled")


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks():
        for part in (b"one ", b"two ", b"three"):
            await asyncio.sleep(0.05)
            yield part

    return StreamingResponse(chunks())


@app.get("/background")
async def background(tasks: BackgroundTasks) -> dict:
    tasks.add_task(asyncio.sleep, 0.5)
    return {}


@app.get("/background-fails")
async def background_fails(tasks: BackgroundTasks) -> dict:
    async def work() -> None:
        raise KeyError("afterwards")

    tasks.add_task(work)
    return {}


@app.post("/echo")
async def echo(request: Request) -> int:
    return len(await request.body())


released = asyncio.Event()


@app.get("/slow")
async def slow() -> dict:
    """For clients that do not wait; it does not ask whether they do, but waits until they say that they have left."""
    released.clear()
    await asyncio.wait_for(released.wait(), 60)
    return {}


@app.get("/health/left")
async def left() -> dict:
    released.set()
    return {}


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def chunks():
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


@app.get("/own-header")
async def own_header() -> JSONResponse:
    return JSONResponse({}, headers={"X-Request-ID": "somebody-elses"})


REUSED = JSONResponse({"same": "object"})


@app.get("/reused")
async def reused() -> JSONResponse:
    return REUSED


@app.get("/health")
async def health() -> dict:
    return {}


@app.websocket("/ws/{room}")
async def ws(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


@app.websocket("/ws-refuses")
async def ws_refuses(websocket: WebSocket) -> None:
    await websocket.close(4003)


@app.websocket("/ws-crashes")
async def ws_crashes(websocket: WebSocket) -> None:
    await websocket.accept()
    raise KeyError("in a WebSocket")


@app.websocket("/ws-forbids")
async def ws_forbids(websocket: WebSocket) -> None:
    await websocket.accept()
    raise WebSocketException(1008)


def dependency() -> str:
    return "d"


router = APIRouter(prefix="/inner")


@router.get("/{x}")
async def included(x: str, d: str = Depends(dependency)) -> str:
    return x


app.include_router(router, prefix="/outer")

sub = FastAPI()


@sub.get("/items/{number}")
async def sub_item(number: int) -> int:
    return number


sub.add_middleware(Strange)


@sub.get("/boom")
async def sub_boom() -> None:
    raise ValueError("in the mounted application")


app.mount("/tenants/{tenant}", sub)


async def plain(request):
    return JSONResponse({})


app.router.routes.append(Mount("/plain", routes=[Route("/{leaf}", plain)]))
