"""How many workers live, heard from outside: each sends a heartbeat over the broker every 2 s, without ``-E`` too.

Only events of workers are asked for; those of tasks, of which there may be thousands a second, are not delivered.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

# Seconds after which a worker that was not heard counts as dead.
SILENT = 10.0
# Names that are remembered; anybody who reaches the broker can send some.
_MOST = 10_000
_UNSAFE = ("pickle", "application/x-python-serialize")


class Listener:
    """Listens from the moment it is made.

    :param receiver: the application's class of event receivers, which knows how its events are sent
    :param connection: kombu's, connected
    :param system: "redis" or "rabbitmq"
    """

    def __init__(self, receiver: Any, connection: Any, system: str) -> None:
        self._connection = connection
        # With Redis the queue is a subscription of this connection, whatever its name; but kombu leaves the name behind
        # when a process is killed, so it is always the same.
        node = {"node_id": "otel_cc"} if system == "redis" else {}
        channel = connection.channel()
        receives = receiver(channel, routing_key="worker.#", **node)
        serializer = receives.app.conf.event_serializer
        # A pickle from the broker would run code in a process that otherwise takes no messages.
        self._deaf = serializer in _UNSAFE
        self._consumer = connection.Consumer(
            [receives.queue],
            channel,
            callbacks=[self._heard],
            on_decode_error=lambda message, error: None,
            accept={"json"} if self._deaf else {"json", serializer},
            no_ack=True,
        )
        self._consumer.consume()
        self._seen: dict[str, float] = {}
        self._since = self._turned = monotonic()

    def listen(self, seconds: float) -> int | None:
        """Listen for a while.

        :param seconds: how long
        :return: how many workers were heard lately, or None as long as that cannot be known
        """
        now = monotonic()
        if now - self._turned > SILENT / 2:
            # This process was asleep; what was sent in the meantime may be lost.
            self._since = now
        until = now + seconds
        while (left := until - monotonic()) > 0 and self._drain(left):
            pass
        # What has arrived is counted before anybody is declared dead.
        for _ in range(_MOST):
            if not self._drain(0.01):
                break
        self._turned = now = monotonic()
        for name, at in list(self._seen.items()):
            if now - at > SILENT:
                del self._seen[name]
        return None if self._deaf or now - self._since < SILENT else len(self._seen)

    def _drain(self, seconds: float) -> bool:
        """Wait for one event; false when none came."""
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError as error:
            if error.errno is not None:
                # Not our limit: the connection is dead.
                raise
            return False
        return True

    def _heard(self, body: Any, message: Any) -> None:
        for event in body if isinstance(body, list) else [body]:
            if not isinstance(event, dict):
                continue
            kind, name = event.get("type"), event.get("hostname")
            if not isinstance(name, str) or len(name) > 255:
                continue
            if kind == "worker-offline":
                self._seen.pop(name, None)
            elif kind in ("worker-heartbeat", "worker-online") and (name in self._seen or len(self._seen) < _MOST):
                self._seen[name] = monotonic()
