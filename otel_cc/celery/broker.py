"""Which broker an application publishes to and consumes from, by the name that the semantic conventions give it."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from otel_cc import guard

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/#messaging-system, by kombu's driver type
_SYSTEMS = {
    "amqp": "rabbitmq",
    "sqs": "aws_sqs",
    "gcpubsub": "gcp_pubsub",
    "azureservicebus": "servicebus",
}

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
