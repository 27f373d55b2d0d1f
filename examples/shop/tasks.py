"""The worker of the shop: ``celery -A tasks worker``."""

from __future__ import annotations

import logging
from typing import Any

import settings
from celery import Celery
from models import Invoice, Order
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

logger = logging.getLogger("shop.tasks")

app = Celery("shop", broker=settings.BROKER_URL)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True

engine = create_engine(settings.DATABASE_URL)


class ProviderUnavailable(Exception):
    """The payment provider did not answer."""


@app.task(name="shop.invoice")
def invoice(order_id: int) -> None:
    """Write the invoice of an order."""
    with Session(engine) as session, session.begin():
        order = session.get_one(Order, order_id)
        session.add(Invoice(order_id=order.id, amount=order.total))
        order.status = "invoiced"
    logger.info("invoice for order %d written", order_id)


@app.task(name="shop.charge", bind=True, autoretry_for=(ProviderUnavailable,), max_retries=3, default_retry_delay=0.2)
def charge(self: Any, order_id: int) -> None:
    """Collect the money for an order; the provider of this shop is always busy at the first attempt."""
    with Session(engine) as session, session.begin():
        order = session.get_one(Order, order_id)
        if self.request.retries == 0:
            logger.warning("payment provider is busy, order %d will be charged again", order_id)
            raise ProviderUnavailable("payment provider answered 503")
        order.status = "paid"
    logger.info("order %d paid", order_id)
