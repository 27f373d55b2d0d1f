"""The tables of docs/metrics.md, from the catalogue."""

from __future__ import annotations

from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE, Instrument, prometheus_name
from tools.marked import replaced

TITLES = {
    "http": "HTTP",
    "errors": "Errors",
    "sql": "SQL",
    "pool": "Connection pools",
    "celery": "Celery",
    "process": "The process",
    "telemetry": "Telemetry about itself",
}


def row(name: str, entry: Instrument) -> str:
    """One line of a table."""
    shown = prometheus_name(name)
    if entry.kind == "histogram":
        shown += "_bucket, _sum, _count"
    labels = ", ".join(f"`{attribute.replace('.', '_')}`" for attribute in entry.attributes) or "none"
    return f"| `{name}` ({entry.kind}, {entry.unit}) | `{shown}` | {labels} | {entry.text} |\n"


def instruments() -> str:
    """A table for each part of the data path."""
    text = ""
    for scope, title in TITLES.items():
        text += (
            f"\n### {title}\n\n| OpenTelemetry (kind, unit) | Prometheus | labels | what it is |\n|---|---|---|---|\n"
        )
        text += "".join(row(name, entry) for name, entry in CATALOGUE.items() if entry.scope == scope)
    return text + "\n"


def buckets() -> str:
    """The bucket bounds of each histogram, those with equal ones together."""
    names: dict[tuple[float, ...], list[str]] = {}
    for name, entry in CATALOGUE.items():
        if entry.buckets:
            names.setdefault(entry.buckets, []).append(f"`{name}`")
    text = "\n| upper bounds | histograms |\n|---|---|\n"
    for bounds, histograms in names.items():
        text += f"| {' '.join(f'{bound:g}' for bound in bounds)} | {', '.join(histograms)} |\n"
    return text + "\n"


def bounds() -> str:
    """How many values each label may have."""
    text = "\n| label | values in one process, at most |\n|---|---|\n"
    # In Prometheus error.type and error_type are one label.
    labels = {name.replace(".", "_"): bound for name, bound in BOUNDS.items()}
    return text + "".join(f"| `{label}` | {bound} |\n" for label, bound in labels.items()) + "\n"


def page(present: str) -> str:
    """The page with its generated parts renewed."""
    for part, make in (("instruments", instruments), ("buckets", buckets), ("bounds", bounds)):
        present = replaced(present, part, "the catalogue", make())
    return present
