"""Which statements a comment pays for: the governor of ``OTEL_CC_SQL_COMMENT=auto``.

A text that changes with every request defeats the prepared statements of psycopg 3 and asyncpg: the server parses and
plans anew, which can cost many times a short query; sqlite3 keeps prepared statements, too. Such a comment is sent only
where its cost is within the budget, compared with how long the statement usually takes; on a driver that prepares
nothing it is free and always sent.
"""

from __future__ import annotations

from typing import NamedTuple

# Drivers that send text as it is and cache nothing by it.
FREE = frozenset({"psycopg2"})

# The weight of the newest duration in a statement's moving average. The average falls faster than it rises: the first
# time, a statement that had to wait and a busy machine all look slow, and a comment that does not pay must not stay.
_WEIGHT_UP = 0.1
_WEIGHT_DOWN = 0.8


class Cost(NamedTuple):
    """What a comment costs a driver that prepares statements.

    :param seconds: CPU of client and server: parsing, planning, an evicted statement
    :param round_trips: additional round trips to the server
    """

    seconds: float
    round_trips: int


# Measured on PostgreSQL 15 with a primary-key select, see docs/sql-comments.md; an unknown driver is taken for the worst.
_SQLITE = Cost(50e-6, 0)
COSTS = {"psycopg": Cost(130e-6, 0), "pysqlite": _SQLITE, "aiosqlite": _SQLITE, "pysqlcipher": _SQLITE}
WORST = Cost(320e-6, 2)


class Usual:
    """How long one statement usually takes without a comment.

    :ivar seconds: the moving average of its durations; None before the first
    :ivar paid: how often a comment would have been within the budget
    """

    __slots__ = ("paid", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.paid = 0


class Budget:
    """The governor of one engine.

    :param driver: SQLAlchemy's name of the driver
    :param share: the share of a statement's usual duration that its comment may cost
    """

    def __init__(self, driver: str, share: float) -> None:
        self.free = driver in FREE
        self._share = share
        self._cost = COSTS.get(driver, WORST)
        self._fastest = float("inf")

    def pays(self, usual: Usual) -> bool:
        """Whether a comment is free or the statement takes long enough; one that was never seen does not, for all we know.

        To plan a large statement anew can cost far more than assumed here, and then it takes long only because of its
        comment. So it goes without one at the second, fourth, eighth ... time, which shows what it takes by itself.
        """
        if self.free:
            return True
        seconds = usual.seconds
        # The fastest statement seen stands for a round trip.
        if seconds is None or seconds * self._share < self._cost.seconds + self._cost.round_trips * self._fastest:
            return False
        usual.paid += 1
        return usual.paid == 1 or usual.paid & (usual.paid - 1) != 0

    def took(self, usual: Usual, seconds: float, commented: bool) -> None:
        """Learn from one execution.

        :param commented: whether it had a comment, which may be what took the time
        """
        if seconds < self._fastest:
            self._fastest = seconds
        before = usual.seconds
        if before is None:
            usual.seconds = seconds
        elif seconds < before:
            usual.seconds = before + _WEIGHT_DOWN * (seconds - before)
        elif not commented:
            usual.seconds = before + _WEIGHT_UP * (seconds - before)
