"""The request ID on its way out to the next service, and in from a message, beside the W3C trace context.

An incoming HTTP request is not read here but in ``http``, where its client is known and trust is decided.
"""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otel_cc import context as correlation_context
from otel_cc import settings
from otel_cc.context import SCOPE_KEY, Correlation


class RequestIdPropagator(TextMapPropagator):
    """Writes the request ID of the current request or task into outgoing calls.

    The field is the configured header in lower case: message carriers and HTTP/2 know no other case.
    """

    def __init__(self) -> None:
        options = settings.get()
        self._field = options.request_id_header.lower()
        self._writes = options.outgoing

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        if context is None:
            return otel_context.get_current()
        # The W3C propagators start from an empty context when they are given none, as contrib and FastAPI's native
        # telemetry do, and attach what comes out: the request or task that is running keeps its ID. What is still empty
        # stays so for others, because contrib's Celery instrumentor takes that for "nothing came, keep what is current".
        correlation = correlation_context.current() if context else _being_served(carrier)
        if correlation is not None and correlation_context.current(context) is None:
            return correlation_context.with_correlation(correlation, context)
        return context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        correlation = correlation_context.current(context)
        if correlation is not None and self._writes:
            setter.set(carrier, self._field, correlation.request_id)

    @property
    def fields(self) -> set[str]:
        return {self._field}


def _being_served(carrier: object) -> Correlation | None:
    """The correlation of the request whose ASGI scope, or whose headers, are the carrier."""
    if isinstance(carrier, dict):
        found = carrier.get(SCOPE_KEY)
        return found if isinstance(found, Correlation) else None
    if type(carrier).__module__ == "starlette.datastructures":
        return correlation_context.current()
    return None


def install() -> None:
    """Put the request ID behind whatever propagators are configured.

    ``OTEL_PROPAGATORS`` is read when ``opentelemetry.propagate`` is imported, before any distro runs, and a declarative
    configuration file replaces the result; so this is called after both.
    """
    # Not above: this module is loaded while opentelemetry.propagate is, where OTEL_PROPAGATORS names our propagator.
    from opentelemetry.propagate import get_global_textmap, set_global_textmap

    present = get_global_textmap()
    if isinstance(present, RequestIdPropagator):
        return
    parts = list(getattr(present, "_propagators", ())) or [present]
    if not any(isinstance(part, RequestIdPropagator) for part in parts):
        set_global_textmap(CompositePropagator([present, RequestIdPropagator()]))
