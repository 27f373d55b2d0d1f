"""What the benchmark prints."""

from __future__ import annotations

from benchmarks import report, verdict
from benchmarks.results import Results
from benchmarks.summary import Summary
from benchmarks.table import number, render, spread


def test_a_table_aligns_names_left_and_numbers_right() -> None:
    text = render("Title", ["what", "us"], [["json", "5"], ["statements", "1234"]])

    assert text.splitlines() == [
        "Title",
        "what          us",
        "----------  ----",
        "json           5",
        "statements  1234",
    ]


def test_a_cell_shows_the_median_and_its_quartiles() -> None:
    assert spread(Summary(54.6, 51.0, 61.2, 20)) == "55 [51-61]"
    assert number(Summary(54.6, 51.0, 61.2, 20), 1) == "54.6"
    assert spread(None) == number(None) == "-"


def test_the_report_compares_with_bare_and_stock_and_judges_the_targets() -> None:
    results = Results()
    for variant, export, cpu in (("bare", "", 100.0), ("stock", "otlp", 500.0), ("ours", "otlp", 180.0)):
        results.add("json", variant, export, {"cpu_us": cpu, "spans": 1.0, "bytes": 400.0})

    assert report.text(results).splitlines() == [
        "HTTP: CPU of the process per request, exporter threads included",
        "CPU per request, us  export  all      over bare           x stock  spans  OTLP bytes",
        "-------------------  ------  ---  -------------  ----------------  -----  ----------",
        "json, bare                   100                                     1.0         400",
        "json, stock            otlp  500  400 [400-400]                      1.0         400",
        "json, ours             otlp  180     80 [80-80]  0.20 [0.20-0.20]    1.0         400",
        "",
        "Targets",
        "met     CPU over bare with OTLP export, JSON, x stock: 0.20 [0.20-0.20], wanted <= 0.35",
    ]


def test_a_target_is_judged_by_the_digits_that_are_shown() -> None:
    def target(value: float, *, least: bool = False) -> verdict.Target:
        return verdict.Target("it", Summary(value, value, value, 9), 1.05, 1.05, least)

    assert [target(value).met for value in (1.05, 1.0549, 1.056)] == [True, True, False]
    assert [target(value, least=True).met for value in (1.04, 1.0451, 1.05)] == [False, True, True]


def test_a_variant_that_loses_spans_meets_no_target() -> None:
    results = Results()
    for variant, export, cpu, spans in (("bare", "", 100, 0), ("stock", "otlp", 500, 7), ("ours", "otlp", 120, 1)):
        results.add("sqlite", variant, export, {"cpu_us": cpu, "spans": spans})

    (found,) = verdict.targets(results)

    assert not found.met
    assert found.line().endswith("wanted <= 0.35, but only 1.0 of 4 spans arrived")


def test_a_target_that_is_met_today_names_the_later_one() -> None:
    found = verdict.Target("start-up CPU", Summary(0.8, 0.7, 0.9, 9), 1.0, 0.5)

    assert found.line() == "met     start-up CPU: 0.80 [0.70-0.90], wanted <= 1.00, later <= 0.50"
