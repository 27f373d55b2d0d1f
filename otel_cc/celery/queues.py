"""How many messages wait in the queues, and for how long: what the broker says when it is asked.

Redis and Valkey: the length of the list of each priority, and the message at its consuming end, in one round trip.
RabbitMQ: a passive declare, which creates nothing and counts what is ready. What a worker has prefetched is in no queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import time
from typing import Any, NamedTuple

from otel_cc import guard
from otel_cc.celery import published
from otel_cc.metrics.catalogue import BOUNDS

# A longer message is not read for its age.
_LARGEST = 4_000_000


class Depth(NamedTuple):
    """What waits in one queue.

    :param messages: how many
    :param oldest: seconds since the oldest was published, 0 when there is none, None when nobody can tell
    """

    messages: int
    oldest: float | None = None


Read = Callable[[Sequence[str]], dict[str, Depth]]


def names(queues: Iterable[Any]) -> list[str]:
    """The queues that tasks wait in, of those that an application knows; not more than their label may have.

    :param queues: kombu's queues; those of a broadcast have another name in each process and are left out
    """
    known = (q.name for q in queues if q.name and getattr(q.exchange, "type", None) != "fanout")
    return list(islice(dict.fromkeys(known), BOUNDS["messaging.destination.name"] - 1))


def reader(connection: Any, system: str) -> Read:
    """The function that reads the depth of queues; a queue that could not be read is not in its result.

    :param connection: kombu's, connected
    :param system: "redis" or "rabbitmq"
    """
    return _Redis(connection).read if system == "redis" else _RabbitMQ(connection).read


class _Redis:
    def __init__(self, connection: Any) -> None:
        from redis import Redis

        self._channel = connection.channel()
        # Kombu's own client puts the key prefix before the keys of some commands only.
        self._client: Any = Redis(connection_pool=self._channel.pool)

    def read(self, names: Sequence[str]) -> dict[str, Depth]:
        pipe = self._client.pipeline(transaction=False)
        counts = []
        for name in names:
            keys = self._keys(name)
            counts.append(len(keys))
            for key in keys:
                pipe.llen(key)
                pipe.lindex(key, -1)
        answers = iter(pipe.execute(raise_on_error=False))
        now = time()
        found = {}
        for name, count in zip(names, counts, strict=True):
            mine = list(islice(answers, 2 * count))
            errors = [answer for answer in mine if isinstance(answer, Exception)]
            if errors:
                _unknown(name, errors[0])
            else:
                found[name] = Depth(sum(mine[::2]), _oldest(mine[1::2], now))
        return found

    def _keys(self, name: str) -> list[str]:
        """The lists of a queue, one for each step of priority."""
        channel = self._channel
        steps = (channel._q_for_pri(name, step) for step in channel.priority_steps)
        return [channel.global_keyprefix + key for key in dict.fromkeys(steps)]


def _oldest(heads: Sequence[bytes | None], now: float) -> float | None:
    """The age of the oldest of some messages, in seconds; see :class:`Depth`."""
    ages = [_age(head, now) for head in heads if head is not None]
    return max((age for age in ages if age is not None), default=None if ages else 0.0)


def _age(raw: bytes, now: float) -> float | None:
    if len(raw) > _LARGEST:
        return None
    try:
        # Anybody who reaches the broker can have written it.
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    headers = message.get("headers") if isinstance(message, dict) else None
    return published.waited(headers, None, now) if isinstance(headers, dict) else None


class _RabbitMQ:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel: Any = None

    def read(self, names: Sequence[str]) -> dict[str, Depth]:
        found = {}
        for name in names:
            if self._channel is None:
                self._channel = self._connection.channel()
            try:
                found[name] = Depth(self._channel.queue_declare(queue=name, passive=True).message_count)
            except self._connection.channel_errors as error:
                # It has closed the channel.
                self._channel = None
                if getattr(error, "reply_code", None) == 404:
                    # Nobody has made the queue yet, or it was deleted.
                    found[name] = Depth(0)
                    continue
                _unknown(name, error)
        return found


def _unknown(name: str, error: Exception) -> None:
    guard.warn_once(
        f"the queue {name}",
        "the depth of the queue %s is not known (%s): check the queue, and what the user of broker_url may read.",
        name,
        error,
    )
