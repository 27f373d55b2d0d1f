"""The comments of one engine: what stays the same for a request or a route is written once.

Between two statements the processor does other things, and whatever runs then runs with cold caches, five times slower
than alone in a loop. So for all but the first statement of a request this does next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import DEFAULT_TRACE_STATE, SpanContext, TraceFlags, TraceState

from otel_cc.context import Correlation
from otel_cc.sql import comment

_SAMPLED = TraceFlags.SAMPLED
_UNSAMPLED = TraceFlags(0)


class Commenter:
    """Writes comments.

    :param driver: SQLAlchemy's name of the driver
    """

    def __init__(self, driver: str) -> None:
        self._driver = driver
        # What the last comment was written for, and what stands in it before and after the span ID.
        self._last: tuple[Any, Any, int, int, Any, bool, str, str] = ("", None, 0, 0, None, False, "", "")

    def comment(self, correlation: Correlation, linked: SpanContext, doubled: bool) -> str:
        """The comment of a statement.

        :param correlation: the request or task that it belongs to
        :param linked: the span to name; one that is not sampled is not in the trace store, so it is left out
        :param doubled: see :func:`otel_cc.sql.comment.comment`
        """
        trace_id, span_id, _, flags, state, valid = linked
        if not valid or not flags & _SAMPLED:
            trace_id, flags, state = 0, _UNSAMPLED, DEFAULT_TRACE_STATE
        request_id = correlation.request_id
        tags = correlation.tags()
        of_request, of_tags, of_trace, of_flags, of_state, of_doubled, before, after = self._last
        if (
            of_request != request_id
            or of_trace != trace_id
            or of_flags != flags
            or of_state is not state
            or of_doubled is not doubled
            or (of_tags is not tags and of_tags != tags)
        ):
            before, after = self._around_span_id(request_id, tags, trace_id, flags, state, doubled)
            self._last = (request_id, tags, trace_id, flags, state, doubled, before, after)
        return f"{before}{span_id:016x}{after}" if trace_id else before

    def _around_span_id(
        self, request_id: str, tags: Mapping[str, str], trace_id: int, flags: int, state: TraceState, doubled: bool
    ) -> tuple[str, str]:
        pairs: tuple[tuple[str, object], ...] = (*tags.items(), ("db_driver", self._driver))
        if state is not DEFAULT_TRACE_STATE and state:
            pairs = (*pairs, ("tracestate", state.to_header()))
        try:
            before, between, after = comment.around(pairs, doubled)
        except Exception:
            # A value that cannot be a key of the cache.
            before, between, after = comment.around.__wrapped__(pairs, doubled)
        quoted = comment.quote(request_id)
        if doubled:
            quoted = quoted.replace("%", "%%")
        text = f"/*{before}request_id='{quoted}'{between}"
        if trace_id:
            # From numbers, so that nothing else can be in it.
            return f"{text},traceparent='00-{trace_id:032x}-", f"-{flags:02x}'{after}*/"
        return f"{text}{after}*/", ""
