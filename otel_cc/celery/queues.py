"""How many messages wait in the queues, and for how long: what the broker says when it is asked.

Redis and Valkey: the length of the list of each priority, and when the message at its consuming end was published, in one
round trip.
RabbitMQ: a passive declare, which creates nothing and counts what is ready. What a worker has prefetched is in no queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import monotonic, time
from typing import Any, NamedTuple

from otel_cc import guard
from otel_cc.celery import queue_time
from otel_cc.metrics.catalogue import BOUNDS

# A longer message is not looked at: to copy it is work for the broker.
_LARGEST = 1_000_000
# No command reads a part of a message, and one may be larger than what the network and this process should carry. So the
# broker looks for our header, at the end, where Celery puts the headers, and answers with a few bytes; with a number for
# one that is too large, whose copy it need not keep either.
_HEAD = f"""
local head = redis.call('LINDEX', KEYS[1], -1)
if not head then return false end
if #head > {_LARGEST} then
  head = nil
  pcall(function() collectgarbage() end)
  return 1
end
return string.match(string.sub(head, -65536), '"{queue_time.HEADER}":%s*"([%d.]+)"') or ''
"""
# Seconds until a message is asked for again that was too large, or that the broker does not look at for us.
_AGAIN = 600.0


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
        self._later: dict[str, float] = {}

    def read(self, names: Sequence[str]) -> dict[str, Depth]:
        keys = {name: self._keys(name) for name in names}
        every = [key for mine in keys.values() for key in mine]
        heads = [key for key in every if self._later.get(key, 0.0) <= monotonic()]
        pipe = self._client.pipeline(transaction=False)
        for key in every:
            pipe.llen(key)
        for key in heads:
            pipe.eval(_HEAD, 1, key)
        answers = pipe.execute(raise_on_error=False)
        now = time()
        counts = dict(zip(every, answers, strict=False))
        ages: dict[str, float | None] = {}
        for key, head in zip(heads, answers[len(every) :], strict=True):
            if not isinstance(counts[key], Exception):
                ages[key] = self._age(key, head, now)
        found = {}
        for name, mine in keys.items():
            errors = [counts[key] for key in mine if isinstance(counts[key], Exception)]
            if errors:
                _unknown(name, errors[0])
            else:
                known = [age for age in map(ages.get, mine) if age is not None]
                messages = sum(counts[key] for key in mine)
                found[name] = Depth(messages, max(known, default=None if messages else 0.0))
        return found

    def _age(self, key: str, head: Any, now: float) -> float | None:
        """How long the next message of a list has waited, or None when that is not known or there is none.

        :param head: the answer of the broker
        """
        if isinstance(head, bytes):
            # Anybody who reaches the broker can have written it.
            return queue_time.waited({queue_time.HEADER: head}, None, now)
        if head is not None:
            self._later[key] = monotonic() + _AGAIN
            if isinstance(head, Exception):
                guard.warn_once(
                    "age", "the age of the oldest Celery task is not known, allow the Redis command EVAL: %s", head
                )
        return None

    def _keys(self, name: str) -> list[str]:
        """The lists of a queue, one for each step of priority."""
        channel = self._channel
        steps = (channel._q_for_pri(name, step) for step in channel.priority_steps)
        return [channel.global_keyprefix + key for key in dict.fromkeys(steps)]


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
