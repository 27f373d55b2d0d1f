"""A lean tracer for our own instrumentors: the SDK's spans without what nobody reads.

The SDK's span copies itself when it ends, cleans every attribute it is given and creates two bounded lists and a
readable view that most spans never use. Our instrumentors give attributes that are clean by construction, all at
creation, so :class:`LeanSpan` keeps them as they are and hands itself to the processors. Everything else, sampling,
limits, IDs, processors, resource, is the provider's; spans that the application makes itself stay the SDK's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider, _Span
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from otel_cc import guard
from otel_cc.context import ATTRIBUTE, current
from otel_cc.tracing.id_generator import RequestIdGenerator
from otel_cc.version import __version__

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

_UNSET = Status(StatusCode.UNSET)
_RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0x02)
_FLAGS = {flags: TraceFlags(flags) for flags in range(4)}


class Attributes(dict[str, AttributeValue]):
    """Attributes of a lean span: a plain dict with the two members that the SDK's span and encoder look for."""

    dropped = 0
    _immutable = False

    def _set_items(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.update(attributes)


class LeanSpan(_Span):
    """A span that keeps what it was given and is its own readable form."""

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        tracer: LeanTracer,
        start_time: int,
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._resource = tracer.resource
        self._instrumentation_info = tracer.instrumentation_info
        self._instrumentation_scope = tracer._instrumentation_scope
        self._status = _UNSET
        self._start_time = start_time
        self._end_time = None
        self._events = ()  # a list only when the first event comes
        self._links = ()
        self._sampler = tracer.sampler
        self._trace_config = None
        self._record_exception = True
        self._set_status_on_exception = True
        self._span_processor = tracer.span_processor
        self._limits = tracer._span_limits
        self._lock = threading.Lock()
        self._record_end_metrics = None

    def _add_event(self, event: Any) -> None:
        if self._events == ():
            self._events = BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Any) -> None:
        if self._links == ():
            self._links = BoundedList(self._limits.max_links)
        super()._add_link(link)

    def end(self, end_time: int | None = None) -> None:
        with self._lock:
            if self._end_time is not None:
                return
            self._end_time = time_ns() if end_time is None else end_time
        self._span_processor._on_ending(self)
        self._span_processor.on_end(self)

    def _readable_span(self) -> ReadableSpan:
        return self


def _keeps_sampled(sampler: Sampler) -> bool:
    """Whether a sampler keeps every child of a sampled local parent as it is, as the default one does."""
    return isinstance(sampler, ParentBased) and getattr(sampler, "_local_parent_sampled", None) is ALWAYS_ON


class LeanTracer(Tracer):
    """A tracer of the given provider that makes :class:`LeanSpan`s."""

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        parent: SpanContext | None = trace.get_current_span(context).get_span_context()
        if not self._is_enabled():
            return trace.NonRecordingSpan(parent)  # type: ignore[arg-type]  # what the SDK does
        ids = self.id_generator
        correlation = current(context)
        if parent is None or not parent.is_valid:
            parent = None
            # The correlation may be in the given context only: a request's span starts before its context is current.
            if correlation is not None and type(ids) is RequestIdGenerator:
                trace_id = correlation.trace_id
            else:
                trace_id = ids.generate_trace_id()
            random = _RANDOM if ids.is_trace_id_random() else 0
        else:
            trace_id = parent.trace_id
            random = parent.trace_flags & _RANDOM
        if parent is not None and not parent.is_remote and parent.trace_flags & 1 and _keeps_sampled(self.sampler):
            # What the sampler would say, without asking it: most spans are children of a sampled one.
            flags = _FLAGS[random | 1]
            span_context = SpanContext(trace_id, ids.generate_span_id(), False, flags, parent.trace_state)
            values = Attributes(attributes or ())
        else:
            result = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            decision = result.decision
            flags = _FLAGS[random | decision.is_sampled()]
            span_context = SpanContext(trace_id, ids.generate_span_id(), False, flags, result.trace_state)
            if not decision.is_recording():
                return trace.NonRecordingSpan(span_context)
            values = Attributes(result.attributes or ())
        if correlation is not None:
            values[ATTRIBUTE] = correlation.request_id
        span = LeanSpan(name, span_context, parent, kind, values, self, time_ns() if start_time is None else start_time)
        if links:
            span._links = span._new_links(links)
        self.span_processor.on_start(span, parent_context=context)
        return span


_tracers: dict[tuple[int, str], trace.Tracer] = {}


def get_tracer(scope: str) -> trace.Tracer:
    """A tracer for one of our instrumentors.

    It is lean where the provider is the SDK's and no limit on attribute values is set (those need the SDK's cleaning);
    otherwise it is the provider's own.

    :param scope: the instrumentation scope, for example ``otel_cc.http``
    """
    provider = trace.get_tracer_provider()
    key = (id(provider), scope)
    if key not in _tracers:
        _tracers[key] = _make(provider, scope)
    return _tracers[key]


def _make(provider: trace.TracerProvider, scope: str) -> trace.Tracer:
    ordinary = provider.get_tracer(scope, __version__, SCHEMA_URL)
    if type(provider) is not TracerProvider or type(ordinary) is not Tracer:
        return ordinary
    try:
        limits = provider._span_limits
        if limits.max_span_attribute_length is not None or limits.max_attribute_length is not None:
            return ordinary
        instrumentation_scope = ordinary._instrumentation_scope
        lean = LeanTracer(
            provider.sampler,
            provider.resource,
            provider._active_span_processor,
            provider.id_generator,
            # Its own, because making one is deprecated and fails where warnings are errors.
            ordinary.instrumentation_info,
            limits,
            instrumentation_scope,
        )
        # In the provider's own table, so that the refresh of the resource after a fork reaches it too.
        with provider._tracers_lock:
            provider._tracers[instrumentation_scope] = lean
        return lean
    except (AttributeError, TypeError):
        guard.warn_once("lean tracer", "this OpenTelemetry SDK has no place for the lean tracer; its own is used.")
        return ordinary
