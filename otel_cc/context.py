"""Where the request ID lives: in the OpenTelemetry context, never on the span.

Spans are missing for unsampled, excluded and un-instrumented requests; the context is always there, and it follows the
request into threads, tasks and callbacks the way the trace context does. Every carrier (header, error body, log record,
SQL comment, Celery header, outgoing call) reads :func:`current` and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token

from opentelemetry import context as otel_context
from opentelemetry.context import Context

# The key of an ASGI scope under which the correlation of a request is kept, also for a mounted application.
SCOPE_KEY = "otel_cc"

# The attribute that carries the request ID on every span: a free-form ID is found by it, not by the trace ID.
ATTRIBUTE = "request.id"

# What a request leaves on an exception that leaves it, for the log line of whoever catches it: the three IDs as text.
MARK = "__otel_cc_correlation__"

_KEY = otel_context.create_key("otel_cc.correlation")


class Correlation:
    """The identity of one unit of work: a request or a task.

    :param request_id: the accepted or generated request ID
    :param trace_id: the trace ID (128 bits) that root spans of this unit get
    """

    __slots__ = ("request_id", "trace_id")

    def __init__(self, request_id: str, trace_id: int) -> None:
        self.request_id = request_id
        self.trace_id = trace_id

    def tags(self) -> Mapping[str, str]:
        """What the unit of work is, for the SQL comment: ``route`` or ``task``, and ``framework``; never changed."""
        return {}


def current(context: Context | None = None) -> Correlation | None:
    """The correlation of the running request or task, or None outside of one."""
    found = (otel_context.get_current() if context is None else context).get(_KEY)
    return found if isinstance(found, Correlation) else None


def with_correlation(correlation: Correlation | None, context: Context | None = None) -> Context:
    """A copy of ``context`` (default: the current one) that carries ``correlation``."""
    return otel_context.set_value(_KEY, correlation, context)


def attach(correlation: Correlation | None, context: Context | None = None) -> Token[Context]:
    """Make ``correlation`` current; give the token to :func:`detach`."""
    return otel_context.attach(with_correlation(correlation, context))


def detach(token: Token[Context]) -> None:
    """Restore what was current before :func:`attach`."""
    otel_context.detach(token)
