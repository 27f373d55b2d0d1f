"""The benchmark's samples and what is derived from them."""

from __future__ import annotations

from benchmarks.results import Results
from benchmarks.summary import Summary


def _results() -> Results:
    results = Results()
    # The machine is half as fast in the second round.
    for bare, stock, ours in ((100.0, 500.0, 180.0), (200.0, 1000.0, 360.0), (100.0, 500.0, 220.0)):
        results.add("json", "bare", "", {"cpu_us": bare})
        results.add("json", "stock", "otlp", {"cpu_us": stock})
        results.add("json", "ours", "otlp", {"cpu_us": ours})
    return results


def test_what_is_added_over_bare_is_compared_with_stock_round_by_round() -> None:
    assert _results().over_ratio("json", "cpu_us", "ours", "otlp") == Summary(0.2, 0.2, 0.25, 3)


def test_a_variant_without_export_modes_is_the_base_of_all_of_them() -> None:
    assert _results().over("json", "cpu_us", "stock", "otlp") == Summary(400.0, 400.0, 600.0, 3)


def test_what_was_not_measured_has_no_summary() -> None:
    results = _results()

    assert results.plain("json", "cpu_us", "pair", "") is None
    assert results.ratio("sqlite", "cpu_us", "ours", "otlp", "bare") is None


def test_the_document_has_every_sample() -> None:
    results = Results()
    results.add("run", "bare", "", {"cpu_us": 1.0, "wall_us": 2.0})

    assert results.document() == [
        {"workload": "run", "measure": "cpu_us", "variant": "bare", "export": "", "values": [1.0]},
        {"workload": "run", "measure": "wall_us", "variant": "bare", "export": "", "values": [2.0]},
    ]
