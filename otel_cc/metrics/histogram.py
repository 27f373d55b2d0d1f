"""A histogram for the hot path: it finds the place where a measurement goes once per set of attributes, not each time.

The SDK cleans, copies, sorts and hashes the attributes of every single measurement, which costs more than all the rest.
Our attributes are clean and constant by construction: each combination is one dict that the caller keeps. So the first
measurement of a combination is recorded by the SDK, and the following ones go straight to the aggregations that it made.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import Histogram

from otel_cc import guard
from otel_cc.metrics import late
from otel_cc.metrics.catalogue import OVERFLOW, SERIES_LIMIT

# A context without a span. It is not empty, because the SDK takes an empty one for none and looks into the current one.
_NOWHERE = Context({"otel_cc.nowhere": True})


class _Measurement:
    """What an aggregation reads of a measurement."""

    __slots__ = ("attributes", "context", "time_unix_nano", "value")

    def __init__(self, value: float, time_unix_nano: int, context: Context, attributes: Mapping[str, Any]) -> None:
        self.value = value
        self.time_unix_nano = time_unix_nano
        self.context = context
        self.attributes = attributes


class LeanHistogram:
    """Records into an instrument of the SDK.

    :param instrument: the histogram; one that is not the SDK's gets every measurement by its own ``record``
    """

    def __init__(self, instrument: Histogram) -> None:
        self.instrument = instrument
        self._consumer: Any = getattr(instrument, "_measurement_consumer", None)
        self._series: set[tuple[tuple[str, Any], ...]] = set()
        # By the identity of the attributes; the dict itself is kept, so that no other one gets the same.
        self._bound: dict[int, tuple[Mapping[str, Any], Any, list[Any]]] = {}

    def record(self, value: float, attributes: Mapping[str, Any], context: Context | None = None) -> None:
        """Record a measurement.

        :param value: in the unit of the instrument, not negative
        :param attributes: one object for each combination of values, never changed
        :param context: where the current span is looked up for the exemplar; by default the current context
        """
        if context is None:
            context = get_current()
        if late.attention and late.put_off(self.record, value, attributes, context):
            return
        bound = self._bound.get(id(attributes))
        # The readers' storages are replaced, never changed, when a reader comes or goes and after a fork.
        if bound is None or bound[1] is not self._consumer._reader_storages:
            self._record_and_bind(value, attributes, context)
            return
        now = time_ns()
        sampled = self._consumer._sdk_config.exemplar_filter.should_sample(value, now, attributes, context)
        measurement = _Measurement(value, now, context, attributes)
        for aggregate in bound[2]:
            aggregate(measurement, sampled)

    def record_plain(self, value: float, attributes: Mapping[str, Any]) -> None:
        """Record a measurement without an exemplar, which costs half.

        :param value: in the unit of the instrument, not negative
        :param attributes: one object for each combination of values, never changed
        """
        if late.attention and late.put_off(self.record_plain, value, attributes):
            return
        bound = self._bound.get(id(attributes))
        if bound is None or bound[1] is not self._consumer._reader_storages:
            self._record_and_bind(value, attributes, _NOWHERE)
            return
        measurement = _Measurement(value, 0, _NOWHERE, attributes)
        for aggregate in bound[2]:
            aggregate(measurement, False)

    def _record_and_bind(self, value: float, given: Mapping[str, Any], context: Context) -> None:
        attributes = self._limited(given)
        self.instrument.record(value, attributes, context)
        if self._consumer is None:
            return
        try:
            from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes

            storages = self._consumer._reader_storages
            aggregates = []
            for storage in storages.values():
                for match in storage._get_or_init_view_instrument_match(self.instrument):
                    kept = match._view._attribute_keys
                    seen = {k: v for k, v in attributes.items() if kept is None or k in kept}
                    aggregates.append(match._attributes_aggregation[_hash_attributes(seen)].aggregate)
            if len(self._bound) >= 4096:
                self._bound.clear()
            self._bound[id(given)] = (given, storages, aggregates)
        except (AttributeError, ImportError, KeyError, TypeError):
            self._bound.clear()
            self._consumer = None
            guard.warn_once(
                "lean histogram", "this OpenTelemetry SDK has no place for the lean histogram; its own is used."
            )

    def _limited(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """The attributes, or those of the overflow when there are too many combinations."""
        series = tuple(attributes.items())
        if series not in self._series:
            if len(self._series) >= SERIES_LIMIT - 1:
                return OVERFLOW
            self._series.add(series)
        return attributes
