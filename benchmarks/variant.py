"""The variants: which environment a measured process runs in, under which launcher, with which variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """One way to watch the same application.

    :param name: as the tables show it
    :param ours: whether otel-cc is installed
    :param launched: whether it runs under ``opentelemetry-instrument``
    :param environ: variables that make it this variant
    """

    name: str
    ours: bool = False
    launched: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)


BARE = Variant("bare", launched=False)
PAIR = Variant("pair", launched=False, environ={"BENCH_PAIR": "1"})
STOCK = Variant("stock")
OURS = Variant("ours", ours=True)
CONTRIB = Variant("ours-contrib", ours=True, environ={"OTEL_CC_INSTRUMENTATION": "contrib"})

VARIANTS = (BARE, PAIR, STOCK, OURS, CONTRIB)

NOOP = "noop"
OTLP = "otlp"


def exports(variant: Variant, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The export modes in which a variant is measured: "" where it exports nothing."""
    return wanted if variant.launched else ("",)


def exporting(export: str, sink: str) -> dict[str, str]:
    """The variables of an export mode.

    OTLP leaves the choice of exporters to the distribution, as a user would who only knows where the collector is.

    :param sink: the address of the loopback sink
    """
    if export == OTLP:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": sink, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    if export == NOOP:
        exporter = "bench_noop"
        return {"OTEL_TRACES_EXPORTER": exporter, "OTEL_METRICS_EXPORTER": exporter, "OTEL_LOGS_EXPORTER": "none"}
    return {}
