"""Ratio sampling that is right for trace IDs that are UUIDs.

The SDK's ratio sampler compares the low 64 bits, of which a UUID fixes the upper two to ``10``: it samples nothing up to
a ratio of 0.5 and everything from 0.75. The SDK's composite sampler compares 56 bits but loses the tracestate
(opentelemetry-python #5578). This one compares the low 56 bits, which W3C trace context level 2 requires to be random,
and keeps the tracestate.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

logger = logging.getLogger("otel_cc")

_BITS = 1 << 56
_MASK = _BITS - 1


class RatioSampler(Sampler):
    """Samples a share of the traces, by the low 56 bits of the trace ID.

    :param share: between 0 (none) and 1 (all)
    :raises ValueError: the share is not between 0 and 1
    """

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the sampling ratio must be between 0 and 1, not {share}")
        self.share = share
        # As in the specification of the consistent sampler: reject below the threshold, so that a trace kept at a low
        # ratio is kept at every higher one.
        self._threshold = round((1 - share) * _BITS)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = get_current_span(parent_context).get_span_context()
        kept = parent.trace_state if parent is not None and parent.is_valid else None
        if trace_id & _MASK >= self._threshold:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, kept)
        return SamplingResult(Decision.DROP, None, kept)

    def get_description(self) -> str:
        return f"OtelCcRatio{{{self.share}}}"


def _share(argument: str | float | None) -> float:
    try:
        share = float(1.0 if argument is None or argument == "" else argument)
        if 0 <= share <= 1:
            return share
    except ValueError:
        pass
    logger.warning("OTEL_TRACES_SAMPLER_ARG=%r is not a ratio, 1.0 is used: write a number between 0 and 1.", argument)
    return 1.0


def ratio(argument: str | float | None = None) -> Sampler:
    """The sampler for ``OTEL_TRACES_SAMPLER=traceidratio``; the argument is ``OTEL_TRACES_SAMPLER_ARG``."""
    return RatioSampler(_share(argument))


def parent_based_ratio(argument: str | float | None = None) -> Sampler:
    """The sampler for ``OTEL_TRACES_SAMPLER=parentbased_traceidratio``: a parent's decision is kept."""
    return ParentBased(RatioSampler(_share(argument)))
