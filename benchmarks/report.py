"""What a run prints at its end: one table for each kind of workload, then the targets."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.plan import DRIVERS, ENDPOINTS
from benchmarks.results import Results
from benchmarks.summary import Summary
from benchmarks.table import number, render, spread
from benchmarks.variant import VARIANTS
from benchmarks.verdict import targets


def text(results: Results) -> str:
    """The whole report."""
    tables = [part for part in (_requests(results), _comments(results), _celery(results), _startup(results)) if part]
    lines = [target.line() for target in targets(results)]
    return "\n\n".join([*tables, "\n".join(["Targets", *lines])] if lines else tables)


def _requests(results: Results) -> str:
    rows = []
    for workload, variant, export in _sorted(results, "cpu_us", ENDPOINTS):
        own = (workload, "cpu_us", variant, export)
        rows.append(
            [
                f"{_label(workload)}, {variant}",
                export,
                number(results.plain(*own)),
                *_compared(variant, results.over(*own), results.over_ratio(*own), 0),
                number(results.plain(workload, "spans", variant, export), 1),
                number(results.plain(workload, "bytes", variant, export)),
            ]
        )
    head = ["CPU per request, us", "export", "all", "over bare", "x stock", "spans", "OTLP bytes"]
    return render("HTTP: CPU of the process per request, exporter threads included", head, rows) if rows else ""


def _comments(results: Results) -> str:
    rows = []
    for driver in DRIVERS:
        workload = f"comment {driver}"
        plain = results.plain(workload, "statement_us", "off", "")
        if plain:
            ratios = [
                spread(results.ratio(workload, "statement_us", engine, "", "off"), 3)
                for engine in ("auto", "always", "control")
            ]
            rows.append([driver, number(plain), *ratios])
    head = ["time per statement", "off, us", "auto / off", "always / off", "off / off (noise)"]
    return render("SQL comment: ours, transactions of 10 primary-key selects", head, rows) if rows else ""


def _celery(results: Results) -> str:
    rows = []
    for workload, variant, export in _sorted(results, "per_second", ("publish", "run")):

        def rate(to: str, own: tuple[str, str, str, str] = (workload, "per_second", variant, export)) -> str:
            return "" if own[2] == to else spread(results.ratio(*own, to), 2)

        cpu = (workload, "cpu_us", variant, export)
        rows.append(
            [
                f"{workload}, {variant}",
                export,
                number(results.plain(workload, "per_second", variant, export)),
                rate("bare"),
                rate("stock"),
                *_compared(variant, results.over(*cpu), results.over_ratio(*cpu), 0),
                number(results.plain(workload, "spans", variant, export), 1),
            ]
        )
    head = ["messages", "export", "per s", "x bare", "x stock", "CPU us over bare", "x stock", "spans"]
    return render("Celery: publish, then run with a solo worker on Valkey", head, rows) if rows else ""


def _startup(results: Results) -> str:
    rows = []
    for workload, variant, export in _sorted(results, "rss_mb", ("start-up",)):
        cpu, rss = ((workload, "cpu_s", variant, export), (workload, "rss_mb", variant, export))
        rows.append(
            [
                variant,
                export,
                number(results.plain(*cpu), 2),
                *_compared(variant, results.over(*cpu), results.over_ratio(*cpu), 2),
                number(results.plain(*rss), 1),
                *_compared(variant, results.over(*rss), results.over_ratio(*rss), 1),
                number(results.plain(workload, "modules", variant, export)),
            ]
        )
    head = [
        "uvicorn until ready",
        "export",
        "CPU s",
        "over bare",
        "x stock",
        "RSS MB",
        "over bare",
        "x stock",
        "modules",
    ]
    return render("Start-up: FastAPI + SQLAlchemy + Celery application", head, rows) if rows else ""


def _compared(variant: str, over: Summary | None, ratio: Summary | None, digits: int) -> list[str]:
    if variant == "bare":
        return ["", ""]
    return [spread(over, digits), "" if variant == "stock" else spread(ratio, 2)]


def _label(workload: str) -> str:
    return workload if workload == "json" else f"3 statements {workload}"


def _sorted(results: Results, measure: str, workloads: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """The series of some workloads; variants in their usual order, export modes side by side."""
    found = [series for series in results.series(measure) if series[0] in workloads]
    order = [variant.name for variant in VARIANTS]
    yield from sorted(found, key=lambda series: (workloads.index(series[0]), series[2], order.index(series[1])))
