"""Steady traffic over everything that the shop can do, errors included, and the count of what was really sent."""

from __future__ import annotations

import http.client
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import cycle

from otel_cc.local import demo
from otel_cc.local.evidence import HEADER, Request

_TEA = {"customer": "ada", "lines": [{"article": "tea", "quantity": 2}, {"article": "mug", "quantity": 1}]}


def first() -> Request:
    """An order whose ID is a UUID: the request that somebody can look up."""
    return Request("an order", "POST", "/orders", 201, _TEA, {HEADER: str(uuid.uuid4())}, runs=1)


# Mostly what a shop lives of, and some of each thing that can go wrong.
_ROUND = (
    *("order", "list", "show", "list", "order", "pay", "show", "list"),
    *("order", "wrong", "list", "missing", "order", "sold-out", "show", "bug"),
)


class Traffic:
    """A sender in a thread of its own; :meth:`start` and :meth:`stop`.

    :param port: of the shop's API
    :param rate: requests per second
    :ivar sent: how many answers came, by method, path without numbers, and status; 0 stands for no answer
    """

    def __init__(self, port: int, rate: float) -> None:
        self.port = port
        self.rate = rate
        self.sent: Counter[tuple[str, str, int]] = Counter()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> Traffic:
        """Begin to send."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Send nothing more; the request that is on its way is waited for."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        for template, request in _requests():
            if self._stopped.wait(1 / self.rate):
                return
            try:
                status = demo.send(self.port, request).status
            except (OSError, http.client.HTTPException):
                # The API is being restarted, or has ended: its supervisor says so.
                status = 0
            self.sent[request.method, template, status] += 1


def _requests() -> Iterator[tuple[str, Request]]:
    """What is sent, for ever: the path without numbers, and the request."""
    orders = 1
    for kind in cycle(_ROUND):
        if kind == "order":
            orders += 1
            yield "/orders", first()
        elif kind == "list":
            yield "/orders", Request("the newest orders", "GET", "/orders", 200)
        elif kind == "show":
            # Half of all requests come with an ID in a form of the caller's own.
            given = {HEADER: f"order-{orders}"} if orders % 2 else {}
            yield "/orders/{order_id}", Request("one order", "GET", f"/orders/{max(orders // 2, 1)}", 200, None, given)
        elif kind == "pay":
            yield (
                "/orders/{order_id}/payment",
                Request("a payment", "POST", f"/orders/{max(orders // 2, 1)}/payment", 202),
            )
        elif kind == "wrong":
            yield (
                "/orders",
                Request("an order that is not valid", "POST", "/orders", 422, {"customer": "ada", "lines": []}),
            )
        elif kind == "missing":
            yield "/orders/{order_id}", Request("an order that does not exist", "GET", "/orders/999999999", 404)
        elif kind == "sold-out":
            gold = {"customer": "ada", "lines": [{"article": "gold", "quantity": 1}]}
            yield "/orders", Request("an article that is not there", "POST", "/orders", 409, gold)
        else:
            yield "/customers/{customer}/average", Request("a bug", "GET", "/customers/nobody/average", 500)
