"""A real Prometheus: takes metrics over OTLP, scrapes what has a metrics page, and is asked for both; on loopback.

Its configuration is the file that is deployed (collector/prometheus.yaml). Prometheus expands no variables, so the
addresses in it are replaced here; everything else, which decides the names of the series, stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_cc.local import optional, programs
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server, data_folder
from otel_cc.local.shipped import shipped


@dataclass(frozen=True)
class Prometheus(Server):
    """A running server; its API and its OTLP receiver have one port."""


def start(
    processes: Processes,
    *,
    name: str = "prometheus",
    port: int = 0,
    targets: Mapping[str, int] | None = None,
    alertmanager: int | None = None,
    interval: str = "",
    wait: bool = True,
) -> Prometheus:
    """Start a server that ends with ``processes``; takes about 0.5 s.

    :param port: 0 takes a free one
    :param targets: the port on loopback of each job of the configuration; jobs that are not named are left out
    :param alertmanager: the port of the Alertmanager; None: alerts are sent nowhere
    :param interval: how often to scrape and to evaluate rules, for example "1s"; "" keeps what the file says
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("prometheus")
    data = data_folder(processes, name)
    port = port or free_port()
    source = shipped("collector/prometheus.yaml")
    config = optional.need("yaml").safe_load(source.read_text())
    rendered = render(config, source.parent, {"prometheus": port, **(targets or {})}, alertmanager, interval)
    file = data / "prometheus.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(rendered, indent=2))
    process = processes.start(
        name,
        [
            binary,
            f"--config.file={file}",
            f"--storage.tsdb.path={data / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *(source.with_suffix(".flags").read_text().split()),
        ],
        env=environment(),
        cwd=data,
        ready=answers(port, "/-/ready"),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return Prometheus(process, port)


def render(
    config: Mapping[str, Any], folder: Path, targets: Mapping[str, int], alertmanager: int | None, interval: str
) -> dict[str, Any]:
    """The deployed configuration with the addresses of this machine.

    :param folder: that of the file, from which its paths start
    """
    rendered: dict[str, Any] = {**config, "global": {**config.get("global", {})}}
    if interval:
        rendered["global"] |= {"scrape_interval": interval, "evaluation_interval": interval}
        if "scrape_timeout" in rendered["global"]:
            rendered["global"]["scrape_timeout"] = interval
    jobs = []
    for job in config.get("scrape_configs", []):
        if (port := targets.get(job["job_name"])) is None:
            continue
        labels = next((one["labels"] for one in job.get("static_configs", []) if "labels" in one), None)
        static = {"targets": [f"127.0.0.1:{port}"], **({"labels": labels} if labels else {})}
        own = {"scrape_interval": interval, "scrape_timeout": interval} if interval else {}
        jobs.append({**job, **{key: value for key, value in own.items() if key in job}, "static_configs": [static]})
    rendered["scrape_configs"] = jobs
    rendered.pop("alerting", None)
    if alertmanager is not None:
        rendered["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
    if "rule_files" in config:
        rendered["rule_files"] = [str(folder / pattern) for pattern in config["rule_files"]]
    return rendered
