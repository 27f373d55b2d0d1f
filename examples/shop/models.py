"""The tables of the shop."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

PRICES = {"tea": 450, "coffee": 700, "mug": 1200}  # in cents


class Base(DeclarativeBase):
    """The catalogue of tables."""


class Order(Base):
    """What a customer ordered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(80), index=True)
    status: Mapped[str] = mapped_column(String(20), default="new")
    lines: Mapped[list[OrderLine]] = relationship(lazy="selectin", order_by="OrderLine.id")

    @property
    def total(self) -> int:
        """In cents."""
        return sum(line.quantity * line.price for line in self.lines)


class OrderLine(Base):
    """One article of an order; the price, in cents, is that of the day of the order."""

    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    article: Mapped[str] = mapped_column(String(40))
    quantity: Mapped[int]
    price: Mapped[int]


class Invoice(Base):
    """Written by the worker, one for each order; the amount is in cents."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), unique=True)
    amount: Mapped[int]
