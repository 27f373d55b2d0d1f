"""Which broker an application publishes to and consumes from: its name, its identity, and a connection to read it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from otel_cc import guard

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/#messaging-system, by kombu's driver type
_SYSTEMS = {
    "amqp": "rabbitmq",
    "sqs": "aws_sqs",
    "gcpubsub": "gcp_pubsub",
    "azureservicebus": "servicebus",
}

_CONNECT_TIMEOUT = 3.0
# For a broker that takes the connection and then says nothing.
_TIMEOUTS: dict[str, dict[str, float]] = {
    "redis": {"socket_connect_timeout": _CONNECT_TIMEOUT, "socket_timeout": 10.0},
    "rabbitmq": {"read_timeout": 10.0, "write_timeout": 10.0},
}
# Those whose queues can be read; to ask a broker of the cloud costs money.
READABLE = frozenset(_TIMEOUTS)

# The user of a URL, of which Celery shows more or less in its versions; and what redis-py says of its connections.
_USER = re.compile(r"//[^/]*@")
_CONNECTIONS = re.compile(r" : \w*<")

_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def system(app: Any) -> str:
    """``messaging.system`` of a Celery application: the broker, never "celery"."""
    found = _known.get(app)
    if found is None:
        try:
            # Not connected: this only reads the settings.
            driver = app.connection_for_write().transport.driver_type
            found = _SYSTEMS.get(driver, driver)
        except Exception:
            guard.failed("the name of the Celery broker")
            found = "unknown"
        _known[app] = found
    return found


def connection(app: Any, system: str) -> Any:
    """A connection for a monitor, not connected: it gives up soon, and is not cut while it only listens.

    :param system: one of :data:`READABLE`
    """
    chosen = app.conf.broker_transport_options
    options = {name: value for name, value in _TIMEOUTS[system].items() if name not in chosen}
    # Nothing is sent while it listens, which RabbitMQ must not take for death. Among the options it counts, whatever the
    # address says.
    options["heartbeat"] = 0
    return app.connection_for_read(connect_timeout=_CONNECT_TIMEOUT, transport_options=options)


def identity(connection: Any, system: str) -> str:
    """What tells a broker, and the part of it that an application uses, from others; without passwords.

    :param connection: kombu's
    """
    address = connection.as_uri()
    if system == "redis" and address.endswith("//"):
        # No database is the first one.
        address = f"{address[:-1]}0"
    # The address of a socket comes without its database.
    urls = [connection.hostname or "", *connection.alt]
    databases = [database for url in urls for database in parse_qs(urlsplit(url).query).get("virtual_host", ())]
    options = connection.transport_options
    parts = [options.get(name, "") for name in ("master_name", "global_keyprefix")]
    return " ".join([*(_USER.sub("//", url) for url in (address, *connection.alt)), *databases, *map(repr, parts)])


def printable(error: Exception) -> str:
    """What a broker's error says, without passwords."""
    # That no Sentinel answers comes with the connections to them, and those of some redis-py with their passwords.
    return _CONNECTIONS.split(str(error))[0]
