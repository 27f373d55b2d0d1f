"""Where a new trace gets its ID: from the request ID of the running request or task, else at random."""

from __future__ import annotations

from random import getrandbits

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otel_cc import context, request_id


class RequestIdGenerator(IdGenerator):
    """Gives every root span of one request or task the trace ID that its request ID stands for.

    It works for spans that others make, too (contrib, the application's own), because the correlation is in the context
    before any span is started.
    """

    def generate_trace_id(self) -> int:
        correlation = context.current()
        return request_id.new_trace_id() if correlation is None else correlation.trace_id

    def generate_span_id(self) -> int:
        while not (span_id := getrandbits(64)):
            pass
        return span_id

    def is_trace_id_random(self) -> bool:
        # True of every ID that request_id.py lets through: the low 56 bits of UUIDv4, UUIDv7 and random hex are random
        # (W3C trace context level 2, "random-trace-id flag").
        return True
