"""Instruments, made from the catalogue."""

from __future__ import annotations

from opentelemetry import metrics

from otel_cc.metrics.catalogue import CATALOGUE
from otel_cc.metrics.histogram import LeanHistogram
from otel_cc.version import __version__

__all__ = ["histogram"]

_histograms: dict[tuple[int, str], LeanHistogram] = {}


def histogram(name: str) -> LeanHistogram:
    """The histogram of the catalogue with this name, of the current meter provider.

    :raises KeyError: the catalogue has no such instrument
    """
    provider = metrics.get_meter_provider()
    key = (id(provider), name)
    if key not in _histograms:
        entry = CATALOGUE[name]
        meter = provider.get_meter(f"otel_cc.{entry.scope}", __version__)
        instrument = meter.create_histogram(
            name, unit=entry.unit, description=entry.text, explicit_bucket_boundaries_advisory=entry.buckets
        )
        _histograms[key] = LeanHistogram(instrument)
    return _histograms[key]
