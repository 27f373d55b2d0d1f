"""A histogram in the middle of being collected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from otel_cc.metrics.histogram import LeanHistogram


@contextmanager
def collecting(histogram: LeanHistogram) -> Iterator[None]:
    """Hold the locks that the SDK takes while it collects what was recorded."""
    consumer = histogram.instrument._measurement_consumer  # type: ignore[attr-defined]  # the SDK's
    with ExitStack() as locks:
        for storage in consumer._reader_storages.values():
            for match in storage._instrument_view_instrument_matches[histogram.instrument]:
                for aggregation in match._attributes_aggregation.values():
                    locks.enter_context(aggregation._lock)
        yield
