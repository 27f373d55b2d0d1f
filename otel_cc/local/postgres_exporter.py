"""A real postgres_exporter on loopback, with the flags and the queries that are deployed and a role that only monitors."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

from otel_cc.local import optional, programs
from otel_cc.local.postgres import Postgres
from otel_cc.local.process import Processes, answers, environment, free_port
from otel_cc.local.server import Server, data_folder
from otel_cc.local.shipped import shipped

ROLE = "exporter_user"


@dataclass(frozen=True)
class PostgresExporter(Server):
    """A running exporter; its page has the metrics."""

    path: ClassVar[str] = "/metrics"


def start(
    processes: Processes, database: Postgres, *, name: str = "postgres_exporter", port: int = 0, wait: bool = True
) -> PostgresExporter:
    """Make the role and the extension, and start an exporter that ends with ``processes``; takes about 0.3 s.

    :param database: what it looks at; it must have been started with ``shared_preload_libraries=pg_stat_statements``
    :param port: 0 takes a free one
    :param wait: False returns before it is ready
    :raises ProcessError: the program is missing or does not start
    """
    binary = programs.find("postgres_exporter")
    data = data_folder(processes, name)
    port = port or free_port()
    password = _role(database)
    secret = data / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    files = shipped("collector/postgres-exporter")
    process = processes.start(
        name,
        [
            binary,
            f"--web.listen-address=127.0.0.1:{port}",
            f"--config.file={files / 'config.yaml'}",
            f"--extend.query-path={files / 'queries.yaml'}",
            *((files / "flags").read_text().split()),
            f"--collector.stat_statements.exclude_users={ROLE}",
        ],
        env=environment(
            {
                "DATA_SOURCE_URI": f"{database.host}:{database.port}/{database.database}?sslmode=disable",
                "DATA_SOURCE_USER": ROLE,
                "DATA_SOURCE_PASS_FILE": str(secret),
            }
        ),
        cwd=data,
        ready=answers(port, "/metrics", "pg_up 1"),
        wait=False,
    )
    if wait:
        process.wait_ready(60, processes.check)
    return PostgresExporter(process, port)


def _role(database: Postgres) -> str:
    """Make a role that may look and nothing else, and return its password."""
    psycopg = optional.need("psycopg")
    password = secrets.token_urlsafe(16)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        # The server logs what it gets: it gets the hash.
        hashed = connection.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()
        connection.execute(f"DROP ROLE IF EXISTS {ROLE}")
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{hashed}' IN ROLE pg_monitor")
        # What it asks every few seconds would hide what the application asks.
        connection.execute(f"ALTER ROLE {ROLE} SET log_statement = 'none'")
    return password
