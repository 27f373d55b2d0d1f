"""Instruments, made from the catalogue."""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.metrics import Histogram

from otel_cc.metrics.catalogue import CATALOGUE
from otel_cc.version import __version__

__all__ = ["histogram"]

_histograms: dict[tuple[int, str], Histogram] = {}


def histogram(name: str) -> Histogram:
    """The histogram of the catalogue with this name, of the current meter provider.

    :raises KeyError: the catalogue has no such instrument
    """
    provider = metrics.get_meter_provider()
    key = (id(provider), name)
    if key not in _histograms:
        entry = CATALOGUE[name]
        _histograms[key] = provider.get_meter(f"otel_cc.{entry.scope}", __version__).create_histogram(
            name, unit=entry.unit, description=entry.text, explicit_bucket_boundaries_advisory=entry.buckets
        )
    return _histograms[key]
