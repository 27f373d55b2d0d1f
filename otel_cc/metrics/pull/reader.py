"""``OTEL_METRICS_EXPORTER=prometheus``: the SDK's metric reader that has its values fetched, in any number of processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics as api
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from otel_cc import guard, lifecycle, metrics, report
from otel_cc.metrics import counters
from otel_cc.metrics.catalogue import CATALOGUE
from otel_cc.metrics.pull import merge, translate
from otel_cc.metrics.pull.directory import Directory, folder_for
from otel_cc.metrics.pull.member import Member
from otel_cc.metrics.pull.snapshot import Distribution, Exemplar, Number, Snapshot

HOST = "OTEL_EXPORTER_PROMETHEUS_HOST"
PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"
# Not a setting: what the first process of a start tells all those that it starts, so that they know each other.
RUN = "OTEL_CC_METRICS_RUN"


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the endpoint.

    :raises ValueError: what the environment says is no port
    """
    text = environ.get(PORT, "").strip() or "9464"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{PORT}={text!r} is no port: write a number from 1 to 65535")
    return environ.get(HOST, "").strip() or "localhost", int(text)


class PullReader(MetricReader):
    """Replaces upstream's reader, whose port only the first process gets (its siblings fail, or serve nothing).

    Nothing is opened before the process serves, so supervisors never do; forked children of a process that serves are
    members like any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._host, self._port = address(os.environ)
        os.environ.setdefault(RUN, secrets.token_hex(8))
        self._member: Member | None = None
        self._hooked = False
        self._received: MetricsData | None = None
        self._exemplars: dict[object, tuple[tuple[float, ...], tuple[Exemplar, ...]]] = {}
        lifecycle.when_serving(self.start)

    def start(self) -> None:
        """This process serves: it becomes a member."""
        if not self._hooked and hasattr(os, "register_at_fork"):
            self._hooked = True
            # After the hook of fork.py, which was registered before anything served: the sums begin anew there.
            os.register_at_fork(after_in_child=self._after_fork)
        self._begin()

    def _begin(self) -> None:
        path = folder_for(report.shared_dir(), f"{self._host}:{self._port}", _service())
        directory = Directory(path, os.environ.get(RUN, ""))
        self._member = Member(directory, self._host, self._port, self.snapshot)
        self._member.start()

    def _after_fork(self) -> None:
        try:
            if self._member is not None:
                self._member.drop()
                self._exemplars.clear()
                self._begin()
        except Exception:
            guard.warn_once("pull fork", "a forked child keeps its metrics for itself.", exc_info=True)

    def snapshot(self) -> Snapshot:
        """Everything that this process has counted; only one thread at a time may call it."""
        self._received = None
        # A page, not a collection, is what shows a new series as 0 first.
        with counters.real_values():
            self.collect()
        found, self._received = translate.snapshot(self._received), None
        news = {
            translate.names(name, entry.unit, "counter")[0]
            for name, entry in CATALOGUE.items()
            if entry.kind == "counter" and metrics.counts_events(name)
        }
        for key, family in found.families.items():
            for labels, point in family.series.items():
                if isinstance(point, Distribution):
                    family.series[labels] = self._with_exemplars((key, labels), point)
                elif family.kind == "counter" and family.name in news:
                    family.series[labels] = Number(point.value, new=True)
        return found

    def _with_exemplars(self, key: object, point: Distribution) -> Distribution:
        """The point with the last exemplar of each bucket: the SDK hands each out once, also to a page nobody reads."""
        bounds, before = self._exemplars.get(key, (point.bounds, ()))
        if not before and not point.exemplars:
            return point
        exemplars = merge.newest(point.bounds, (*(before if bounds == point.bounds else ()), *point.exemplars))
        self._exemplars[key] = (point.bounds, exemplars)
        return Distribution(point.bounds, point.counts, point.sum, exemplars)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self._received = metrics_data

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Keep the values where the siblings find them."""
        return self._member is None or self._member.keep(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Keep the last values and leave."""
        if self._member is not None:
            self._member.stop(timeout_millis / 1000)


def _service() -> str:
    """What tells this service from others at the same address."""
    config = getattr(api.get_meter_provider(), "_sdk_config", None)
    resource = getattr(config, "resource", None) or Resource.create()
    return "/".join(str(resource.attributes.get(name, "")) for name in ("service.namespace", "service.name"))
