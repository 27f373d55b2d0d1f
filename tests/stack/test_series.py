"""The catalogue and a recorded scrape of a real Prometheus: neither has a series that the other lacks (`make scrape`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name
from tools import scrape

RECORDED: scrape.Series = json.loads((Path(__file__).parent / "recorded" / "series.json").read_text())
OURS = RECORDED[scrape.APPLICATION]
# Who sent it; which of them a service sets is its own business.
IDENTITY = {
    *("job", "instance", "service_name", "service_namespace", "service_instance_id", "service_version"),
    *("deployment_environment_name", "host_name"),
}
# Prometheus makes it of each resource.
FOREIGN = {"target_info"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def names(name: str) -> list[str]:
    return [prometheus_name(name) + suffix for suffix in SUFFIXES.get(CATALOGUE[name].kind, ("",))]


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_of_the_catalogue_is_there_under_its_name_with_its_labels(name: str) -> None:
    labels = {attribute.replace(".", "_") for attribute in CATALOGUE[name].attributes} | IDENTITY
    for shown in names(name):
        assert shown in OURS, "run make scrape"
        assert set(OURS[shown]) - labels - {"le"} == set()
        assert ("le" in OURS[shown]) == shown.endswith("_bucket")


def test_nothing_is_there_that_the_catalogue_lacks() -> None:
    assert set(OURS) - {shown for name in CATALOGUE for shown in names(name)} == FOREIGN


def test_every_part_of_the_stack_is_there() -> None:
    assert set(RECORDED) == {scrape.APPLICATION, *scrape.OTHERS}


def test_a_difference_is_seen() -> None:
    changed = json.loads(json.dumps(RECORDED))
    name, *others = changed[scrape.APPLICATION]
    del changed[scrape.APPLICATION][name]
    changed[scrape.APPLICATION][others[0]].append("more")
    changed[scrape.APPLICATION]["new"] = []
    changed["otelcol"]["otelcol_something"] = []
    assert scrape.differences(RECORDED, RECORDED) == []
    assert len(scrape.differences(RECORDED, changed)) == 3
