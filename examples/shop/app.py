"""The API of the shop: ``uvicorn app:app``. Nothing here knows of telemetry."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import settings
import tasks
from fastapi import Depends, FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from models import PRICES, Base, Order, OrderLine
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("shop.app")

engine = create_async_engine(settings.DATABASE_URL)
new_session = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables that are missing."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(title="shop", lifespan=lifespan)


async def session() -> AsyncIterator[AsyncSession]:
    """One transaction for each request; it is committed by the endpoint."""
    async with new_session() as opened:
        yield opened


Database = Annotated[AsyncSession, Depends(session)]


class NewLine(BaseModel):
    """One article that somebody wants."""

    article: str
    quantity: int = Field(gt=0, le=100)


class NewOrder(BaseModel):
    """What somebody wants to order."""

    customer: str = Field(min_length=1, max_length=80)
    lines: list[NewLine] = Field(min_length=1, max_length=50)


class OrderView(BaseModel):
    """An order as the API shows it; the total is in cents."""

    id: int
    customer: str
    status: str
    total: int


def view(order: Order) -> OrderView:
    """The public side of an order."""
    return OrderView(id=order.id, customer=order.customer, status=order.status, total=order.total)


@app.post("/orders", status_code=201)
async def place_order(new: NewOrder, database: Database) -> OrderView:
    """Write the order and its lines in one transaction, then have the invoice written."""
    unknown = sorted({line.article for line in new.lines} - PRICES.keys())
    if unknown:
        raise HTTPException(409, f"not in stock: {', '.join(unknown)}")
    lines = [OrderLine(article=line.article, quantity=line.quantity, price=PRICES[line.article]) for line in new.lines]
    order = Order(customer=new.customer, lines=lines)
    database.add(order)
    await database.commit()
    logger.info("order %d placed by %s", order.id, order.customer)
    await run_in_threadpool(tasks.invoice.delay, order.id)
    return view(order)


@app.get("/orders")
async def list_orders(database: Database) -> list[OrderView]:
    """The newest orders."""
    return [view(order) for order in await database.scalars(select(Order).order_by(Order.id.desc()).limit(20))]


@app.get("/orders/{order_id}")
async def show_order(order_id: int, database: Database) -> OrderView:
    """One order."""
    order = await database.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"there is no order {order_id}")
    return view(order)


@app.post("/orders/{order_id}/payment", status_code=202)
async def pay_order(order_id: int, database: Database) -> OrderView:
    """Have an order charged."""
    order = await database.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"there is no order {order_id}")
    await run_in_threadpool(tasks.charge.delay, order.id)
    return view(order)


@app.get("/customers/{customer}/average")
async def average_order(customer: str, database: Database) -> dict[str, float]:
    """The average total of a customer's orders, in cents; it has the bug that a customer without orders brings to light."""
    orders = (await database.scalars(select(Order).where(Order.customer == customer))).all()
    return {"average": sum(order.total for order in orders) / len(orders)}


@app.get("/health")
async def health() -> dict[str, str]:
    """For whoever waits for the API to be up."""
    return {"status": "ok"}
