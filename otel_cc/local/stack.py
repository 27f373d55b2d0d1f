"""The stack: the shop, and behind it the collector, Prometheus, Alertmanager, Jaeger and the exporters; on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from otel_cc.local import (
    alertmanager,
    application,
    collector,
    jaeger,
    optional,
    postgres_exporter,
    programs,
    prometheus,
    redis_exporter,
    victoria_logs,
)
from otel_cc.local.process import Process, ProcessError, Processes, free_port, keep_for_others

# The ports that people know, for `--fixed-ports`.
FIXED = {
    "shop-api": 8000,
    "otlp": 4318,
    "otlp-grpc": 4317,
    "prometheus": 9090,
    "alertmanager": 9093,
    "jaeger": 16686,
    "victoria-logs": 9428,
    "postgres_exporter": 9187,
    "redis_exporter": 9121,
}

_PROGRAMS = ("otelcol-cc", "prometheus", "alertmanager", "jaeger", "postgres_exporter", "redis_exporter")

DATABASE = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "compute_query_id": "on",
    "pg_stat_statements.track_utility": "off",
    "auto_explain.log_min_duration": "500ms",
    "auto_explain.log_format": "json",
    "track_activity_query_size": "4096",
    "track_io_timing": "on",
}


@dataclass(frozen=True)
class Program:
    """One program of the stack.

    :param url: where people or other programs find it, or "" for one that listens nowhere
    :param probe: what is asked whether it is ready: an ``http://`` address, or ``tcp://`` for a port; "": it runs
    :param log: the file that people read
    """

    name: str
    process: Process
    url: str
    probe: str
    log: Path


@dataclass(frozen=True)
class Stack:
    """Everything that runs."""

    shop: application.Shop
    collector: collector.Collector
    prometheus: prometheus.Prometheus
    alertmanager: alertmanager.Alertmanager
    jaeger: jaeger.Jaeger
    postgres_exporter: postgres_exporter.PostgresExporter
    redis_exporter: redis_exporter.RedisExporter
    victoria_logs: victoria_logs.VictoriaLogs | None = None
    programs: list[Program] = field(default_factory=list)

    def ended(self) -> list[Program]:
        """The programs that should run and do not."""
        return [program for program in self.programs if not program.process.running]


def require(*, logs: bool = False) -> None:
    """Look for everything that the stack needs.

    :raises Missing: a package is not installed
    :raises ProcessError: a program is not there
    """
    application.require()
    optional.folder("yaml")
    for name in (*_PROGRAMS, *(["victoria-logs"] if logs else [])):
        programs.find(name)


def check_ports(ports: Mapping[str, int]) -> None:
    """See that the ports which somebody chose are free.

    :raises ProcessError: one is in use, or its name is not one of :data:`FIXED`
    """
    for name, port in ports.items():
        if name not in FIXED:
            raise ProcessError(f"there is no port named {name}: choose from {', '.join(FIXED)}.")
        with socket.socket() as probe:
            # As the servers do: connections of the past do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ProcessError(
                    f"port {port} for {name} cannot be used ({error.strerror}): stop what uses it, or choose another "
                    f"with --port {name}=NUMBER."
                ) from None


def start(
    processes: Processes,
    *,
    ports: Mapping[str, int] | None = None,
    logs: bool = False,
    interval: str = "5s",
    statements: str = "all",
    database_home: Path | None = None,
    extra: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> Stack:
    """Start everything and wait until it is ready; takes about 10 s on a small machine.

    :param ports: chosen ports by the names of :data:`FIXED`; all others are free ones
    :param logs: with VictoriaLogs as a store of logs
    :param interval: how often Prometheus scrapes and evaluates rules
    :param statements: which statements PostgreSQL logs: all, mod, ddl or none
    :param database_home: a folder for PostgreSQL that does not exist yet
    :param extra: more variables for the API and the worker
    :param progress: told what is being waited for
    :raises Missing: a package is not installed
    :raises ProcessError: a program is missing, does not start, or a port is in use
    """
    require(logs=logs)
    chosen = dict(ports or {})
    check_ports(chosen)
    keep_for_others(chosen.values())

    def port(name: str) -> int:
        return chosen.get(name) or free_port()

    config = {**DATABASE, "log_statement": statements}
    database, broker = servers = application.start_servers(
        processes, progress=progress, config=config, jsonlog=True, home=database_home
    )

    progress("starting Jaeger, Alertmanager, Prometheus and the exporters")
    traces = jaeger.start(processes, port=port("jaeger"), wait=False)
    alerts = alertmanager.start(processes, port=port("alertmanager"), wait=False)
    rows = postgres_exporter.start(processes, database, port=port("postgres_exporter"), wait=False)
    keys = redis_exporter.start(processes, broker, port=port("redis_exporter"), wait=False)
    lines = victoria_logs.start(processes, port=port("victoria-logs"), wait=False) if logs else None
    # Before the collector, so that it ends after it: what the shop sends at its end still arrives.
    metrics_port = free_port()
    numbers = prometheus.start(
        processes,
        port=port("prometheus"),
        targets={
            "otelcol": metrics_port,
            "alertmanager": alerts.port,
            "jaeger": traces.metrics_port,
            "postgres": rows.port,
            "valkey": keys.port,
        },
        alertmanager=alerts.port,
        interval=interval,
        wait=False,
    )
    started = [traces.process, alerts.process, rows.process, keys.process, numbers.process]
    for process in [*started, *([lines.process] if lines else [])]:
        process.wait_ready(60, processes.check)

    progress("starting the collector")
    settings = {
        "OTEL_CC_COLLECTOR_HTTP_PORT": str(port("otlp")),
        "OTEL_CC_COLLECTOR_GRPC_PORT": str(port("otlp-grpc")),
        "OTEL_CC_COLLECTOR_METRICS_PORT": str(metrics_port),
        "OTEL_CC_PROMETHEUS_URL": numbers.url,
        "OTEL_CC_TRACES_URL": traces.otlp,
    }
    if lines:
        settings |= {
            "OTEL_CC_LOGS_URL": lines.otlp,
            "OTEL_CC_POSTGRES_LOGS": str(database.log_file.with_suffix(".json")),
        }
    middle = collector.start(processes, overlays=("local", *(["logs"] if lines else [])), env=settings)
    assert middle.process is not None
    resource = {"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,deployment.environment.name=local"}
    if lines:
        resource |= {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}
    shop = application.start(
        processes,
        middle.endpoint,
        servers=servers,
        port=port("shop-api"),
        extra={**resource, **(extra or {})},
        progress=progress,
    )
    everything = [
        _program(database.process, _without_password(database.url), _tcp(database.port), database.log_file),
        _program(broker.process, broker.url, _tcp(broker.port)),
        _program(traces.process, traces.url, f"http://127.0.0.1:{traces.health_port}/status"),
        _program(alerts.process, alerts.url, f"{alerts.url}/-/ready"),
        _program(numbers.process, numbers.url, f"{numbers.url}/-/ready"),
        _program(rows.process, rows.url, rows.url),
        _program(keys.process, keys.url, keys.url),
        *([_program(lines.process, lines.url, f"{lines.url}/health")] if lines else []),
        _program(middle.process, middle.endpoint, middle.health_url),
        _program(shop.api, shop.url, f"{shop.url}/health"),
        _program(shop.worker, "", ""),
    ]
    return Stack(shop, middle, numbers, alerts, traces, rows, keys, lines, everything)


def _program(process: Process, url: str, probe: str, log: Path | None = None) -> Program:
    return Program(process.name, process, url, probe, log or process.log)


def _tcp(port: int) -> str:
    return f"tcp://127.0.0.1:{port}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"
