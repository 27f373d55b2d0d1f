"""What happens to statements in this process: who makes their spans and comments, and what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context

if TYPE_CHECKING:
    from otel_cc.sql.measures import ClientSpans, Measures, PoolMeasures


class Switches:
    """The hooks read it at every statement.

    :ivar spans: makes spans, or None
    :ivar measures: counts, or None
    :ivar pools: measures connection pools, or None
    :ivar comments: "auto", "always" or "off"
    """

    spans: ClientSpans | None = None
    measures: Measures | None = None
    pools: PoolMeasures | None = None
    comments: str = "off"


switches = Switches()


def suppressed(current: Context) -> bool:
    """Whether somebody has switched instrumentation off for what runs now."""
    return bool(current.get(_SUPPRESS_INSTRUMENTATION_KEY) or current.get("suppress_instrumentation"))
