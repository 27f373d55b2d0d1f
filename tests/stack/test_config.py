"""The files in collector/: valid for the real programs, of known components, safe by default, every variable explained."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_cc.local import collector as local_collector
from otel_cc.local import programs
from otel_cc.local.process import environment
from otel_cc.local.shipped import shipped

FOLDER = shipped("collector")
OVERLAYS = sorted(path.stem for path in (FOLDER / "overlays").glob("*.yaml"))
REQUIRED = {
    "OTEL_CC_COLLECTOR_TOKEN_FILE": "/nowhere",
    "OTEL_CC_GATEWAY_TOKEN_FILE": "/nowhere",
    "OTEL_CC_HOST_NAME": "web-1",
}
CONTRIB = Path(__file__).parent / "data" / "contrib.txt"
# Each alone, and each with each other one, in both orders.
SETS = [(), *((name,) for name in OVERLAYS), *permutations(OVERLAYS, 2)]


def run(argv: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=environment(env), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@cache
def effective(overlays: tuple[str, ...]) -> dict[str, Any]:
    """The merged configuration with the defaults of the components."""
    loaded: dict[str, Any] = yaml.safe_load(run(local_collector.command("print-config", overlays), REQUIRED))
    return loaded


@pytest.mark.parametrize("overlays", SETS, ids="+".join)
def test_the_collector_takes_every_overlay(overlays: tuple[str, ...]) -> None:
    run(local_collector.command("validate", overlays), REQUIRED)


def test_there_is_an_overlay_for_each_way_to_run_it() -> None:
    assert {"local", "production", "pull", "tail-sampling", "gateway", "logs"} == set(OVERLAYS)


def test_prometheus_alertmanager_and_jaeger_take_their_files() -> None:
    run([programs.find("promtool"), "check", "config", str(FOLDER / "prometheus.yaml")])
    run([programs.find("amtool"), "check-config", str(FOLDER / "alertmanager.yaml")])
    run([programs.find("jaeger"), "validate", "--config", str(FOLDER / "jaeger.yaml")])


def gomods() -> list[str]:
    manifest = yaml.safe_load((FOLDER / "manifest.yaml").read_text())
    kinds = ("extensions", "receivers", "processors", "connectors", "exporters")
    return [entry["gomod"] for kind in kinds for entry in manifest.get(kind, [])]


def test_every_component_of_our_build_is_in_the_upstream_image_of_the_same_version() -> None:
    assert set(gomods()) <= set(CONTRIB.read_text().splitlines())


def test_our_build_has_the_components_that_the_configuration_uses_and_no_more() -> None:
    used = set()
    for path in [FOLDER / "base.yaml", *(FOLDER / "overlays").glob("*.yaml")]:
        config = yaml.safe_load(path.read_text())
        for kind in ("extensions", "receivers", "processors", "exporters"):
            used |= {f"{kind[:-1]} {name.partition('/')[0].replace('_', '')}" for name in config.get(kind, {})}
    built = set()
    for gomod in gomods():
        kind, name = re.search(r"/(extension|receiver|processor|exporter)/(?:storage/)?(\w+) v", gomod).groups()  # type: ignore[union-attr]
        built.add(f"{kind} {name.removesuffix(kind)}")
    assert built == used


def test_a_gateway_takes_all_that_an_agent_may_send_at_once() -> None:
    config = effective(())
    protocols = config["receivers"]["otlp"]["protocols"]
    largest = protocols["http"]["max_request_body_size"]
    assert protocols["grpc"]["max_recv_msg_size_mib"] * 2**20 == largest
    for exporter in config["exporters"].values():
        batch = exporter["sending_queue"].get("batch")
        assert not batch or batch["max_size"] == largest


def test_every_component_that_is_declared_is_in_use_in_some_configuration() -> None:
    declared, used = set(), set()
    for overlays in SETS:
        config = effective(overlays)
        for kind in ("receivers", "processors", "exporters"):
            declared |= {(kind, name) for name in config[kind]}
            used |= {(kind, name) for pipeline in config["service"]["pipelines"].values() for name in pipeline[kind]}
        declared |= {("extensions", name) for name in config["extensions"]}
        used |= {("extensions", name) for name in config["service"]["extensions"]}
    assert declared == used


@pytest.mark.parametrize("overlays", SETS, ids="+".join)
def test_every_extension_that_something_asks_for_is_started(overlays: tuple[str, ...]) -> None:
    config = effective(overlays)
    asked = set(_named(config, "authenticator")) | set(_named(config, "storage"))
    assert asked <= set(config["service"]["extensions"])
    assert "file_storage/queue" in asked
    for name, overlay in (("bearertokenauth", "production"), ("bearertokenauth/gateway", "gateway")):
        assert (name in asked) == (overlay in overlays)
        if name in asked:
            # Not what stands for the token as long as nobody asks.
            assert config["extensions"][name]["filename"] == "/nowhere"


def _named(config: Any, key: str) -> Iterator[str]:
    """The names that stand under the key, wherever it is."""
    for name, value in config.items():
        if name == key and isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _named(value, key)


@pytest.mark.parametrize("overlays", [one for one in SETS if "gateway" in one], ids="+".join)
def test_an_agent_hands_everything_to_the_gateway(overlays: tuple[str, ...]) -> None:
    config = effective(overlays)
    assert config["processors"]["resource/host"]["attributes"][0]["value"] == "web-1"
    for name, exporter in config["exporters"].items():
        if name != "prometheus":
            assert exporter["logs_endpoint" if name == "otlp_http/logs" else "endpoint"].startswith(
                "https://gateway:4318"
            ), name
            assert exporter["auth"]["authenticator"] == "bearertokenauth/gateway", name


@pytest.mark.parametrize("overlays", SETS, ids="+".join)
def test_nothing_listens_beyond_loopback(overlays: tuple[str, ...]) -> None:
    config = effective(overlays)
    protocols = config["receivers"]["otlp"]["protocols"]
    endpoints = [
        protocols["grpc"]["endpoint"],
        protocols["http"]["endpoint"],
        config["extensions"]["health_check"]["endpoint"],
    ]
    endpoints += [one["endpoint"] for name, one in config["exporters"].items() if name == "prometheus"]
    endpoints += [
        r["pull"]["exporter"]["prometheus"]["host"] for r in config["service"]["telemetry"]["metrics"]["readers"]
    ]
    assert len(endpoints) >= 4
    assert all(endpoint.startswith("127.0.0.1") for endpoint in endpoints), endpoints


@pytest.mark.parametrize("overlays", SETS, ids="+".join)
def test_nothing_is_given_up_and_nothing_passes_by_the_limiter_and_the_redaction(overlays: tuple[str, ...]) -> None:
    config = effective(overlays)
    for name, exporter in config["exporters"].items():
        if name == "prometheus":
            continue
        queue = exporter["sending_queue"]
        assert queue["storage"] == "file_storage/queue" and queue["block_on_overflow"] is True
        assert exporter["retry_on_failure"]["enabled"] is True
        assert str(exporter["retry_on_failure"]["max_elapsed_time"]) in ("0", "0s")
        # One client's bad point must not cost another client's.
        assert ("batch" in queue and bool(queue["batch"])) == (name != "otlp_http/prometheus"), name
    for name, pipeline in config["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter"
        assert name == "metrics/host" or any(one.startswith("redaction") for one in pipeline["processors"])


def test_every_variable_of_the_files_is_in_the_table_of_the_page_and_no_other() -> None:
    files = [path for path in FOLDER.rglob("*.yaml") if path.name != "manifest.yaml"]
    used = {name for path in files for name in re.findall(r"\$\{env:([A-Z_]+)", path.read_text())}
    page = (FOLDER.parent / "docs" / "collector.md").read_text()
    assert set(re.findall(r"(?m)^\| `(OTEL_CC_[A-Z_]+)` \|", page)) == used


def test_prometheus_reads_its_flags_and_the_exporter_its_own() -> None:
    # With a wrong flag both say so before anything else.
    for program, file in (("prometheus", "prometheus.flags"), ("postgres_exporter", "postgres-exporter/flags")):
        run([programs.find(program), f"@{FOLDER / file}", "--version"])


def test_victoria_logs_reads_its_flags_from_the_file() -> None:
    lines = (FOLDER / "victoria-logs.env").read_text().splitlines()
    names = {line.partition("=")[0].replace("_", ".") for line in lines if line and not line.startswith("#")}
    known = subprocess.run(
        [programs.find("victoria-logs"), "-help"], capture_output=True, text=True, env=os.environ, check=False
    )
    assert names
    assert names <= set(re.findall(r"(?m)^  -([\w.]+)", known.stdout + known.stderr))
