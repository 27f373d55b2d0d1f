"""An application whose callers choose the names of everything: the bounds on labels must hold against it."""

from __future__ import annotations

from celery import Celery
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import Response
from mix import QUEUES, ROUTES
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

app = FastAPI()
celery = Celery("hostile", broker="memory://", set_as_current=False)
engines = []


class Named(Exception):
    """The base of exceptions that are made while the application runs."""


@app.exception_handler(Named)
async def named(request: Request, error: Named) -> Response:
    return Response(status_code=503)


@app.get("/names/{number}")
async def names(number: int) -> None:
    celery.send_task(f"task{number}", queue=f"queue{number % QUEUES}")
    raise type(f"Named{number}", (Named,), {})


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


# In an application of their own, so that the others need not look through them.
routes = FastAPI()


async def made() -> Response:
    return Response(status_code=502)


for number in range(ROUTES):
    routes.add_api_route(f"/{number}", made)
app.mount("/made", routes)
