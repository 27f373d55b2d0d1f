"""An application whose callers choose the names of everything: the bounds on labels must hold against it."""

from __future__ import annotations

from typing import Any

from celery import Celery
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import Response
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

# More routes than the bound; code has so many only where it makes them.
ROUTES = 1_200

app = FastAPI()
celery = Celery("hostile", broker="memory://", set_as_current=False)
engines = []


class Named(Exception):
    """The base of exceptions that are made while the application runs."""


@app.exception_handler(Named)
async def named(request: Request, error: Named) -> Response:
    return Response(status_code=503)


@app.get("/raises/{number}")
async def raises(number: int) -> None:
    raise type(f"Named{number}", (Named,), {})


@app.get("/publishes/{number}")
def publishes(number: int) -> None:
    celery.send_task(f"task{number}", queue=f"queue{number}")


@app.get("/queries/{number}")
def queries(number: int) -> None:
    engine = create_engine(f"sqlite:///file:name{number}?mode=memory&uri=true", pool_logging_name=f"pool{number}")
    engines.append(engine)
    with engine.connect() as connection:
        try:
            connection.execute(text(f"WORD{number}"))
        except DBAPIError:
            pass


@app.websocket("/closes/{code}")
async def closes(websocket: WebSocket, code: int) -> None:
    await websocket.accept()
    await websocket.close(code)


async def made() -> Any:
    return Response(status_code=502)


for number in range(ROUTES):
    app.add_api_route(f"/made{number}", made)
