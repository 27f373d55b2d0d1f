"""The whole of it, once: servers, databases, workers, the mix, and the end of everything."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from otel_cc.local import postgres as local_postgres
from otel_cc.local.process import Process, Processes, says, wait_until
from otel_cc.local.signals import decode_metrics
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch
from tests.truth import ledger
from tests.truth.client import Tally, send
from tests.truth.exported import Exported
from tests.truth.mix import DEADLY, LAST, PUBLISHED, TERMINATED, Planned, mix

HERE = Path(__file__).parent
SERVERS = 4
# The names of engines, of their databases and of their sessions.
ENGINES = ("sync", "async", "tight", "tasks")
TABLES = (
    "CREATE TABLE truth (number int PRIMARY KEY)",
    "INSERT INTO truth SELECT generate_series(1, 100)",
    "CREATE TABLE truth_added (value int)",
    "CREATE TABLE truth_child (parent int REFERENCES truth DEFERRABLE INITIALLY DEFERRED)",
)
EXPORT_INTERVAL = 1.0
PATIENCE = 180.0
# A process that exports nothing for so long has ended, in seconds.
SILENCE = 10 * EXPORT_INTERVAL

# How many runs of tasks each published one makes.
RUNS = {"retries": 3, "gives_up": 2, "nests": 2, "poison": 2} | dict.fromkeys(
    ("expires", "revoked", "unknown", "unreachable"), 0
)


@dataclass
class Run:
    """What is known when it is over.

    :ivar tally: what the client saw
    :ivar events: what the application counted
    :ivar statements: what the database logged
    :ivar rows: what it counted, by database and operation
    :ivar sessions: how many were opened, by database
    :ivar connected: how many were open while nothing happened, by database
    :ivar exported: what arrived, up to the end
    :ivar idle: what had arrived when nothing happened any more
    :ivar began: Unix time
    :ivar rested: when ``idle`` was read, Unix time
    """

    tally: Tally = field(default_factory=Tally)
    events: Counter[tuple[str, ...]] = field(default_factory=Counter)
    statements: list[local_postgres.Statement] = field(default_factory=list)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    connected: dict[str, int] = field(default_factory=dict)
    exported: Exported = field(default_factory=lambda: Exported(()))
    idle: Exported = field(default_factory=lambda: Exported(()))
    began: float = field(default_factory=time.time)
    rested: float = 0.0
    ended: float = 0.0


class Database:
    """A PostgreSQL with a database for each engine, which logs what it gets."""

    def __init__(self, processes: Processes) -> None:
        self.server = local_postgres.start(
            processes,
            config={
                "autovacuum": "off",
                "deadlock_timeout": "50ms",
                "log_connections": "on",
                "shared_preload_libraries": "pg_stat_statements",
                "pg_stat_statements.track": "top",
            },
        )
        self.prefix = self.server.url.removesuffix("shop")
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            for name in ENGINES:
                connection.execute(f"CREATE DATABASE {name}".encode())
        for name in ENGINES:
            with psycopg.connect(self.prefix + name, autocommit=True) as connection:
                for table in TABLES:
                    connection.execute(table.encode())

    def begin(self) -> None:
        self.mark = self.server.mark()
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_statements_reset()")
            self.before = self._sessions(connection)

    def connected(self) -> dict[str, int]:
        """The number of open sessions, by database."""
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            found = connection.execute("SELECT datname, count(*) FROM pg_stat_activity GROUP BY datname")
            return {name: number for name, number in found if name in ENGINES}

    def end(self, run: Run) -> None:
        # A session's last numbers are there when it has ended.
        wait_until(lambda: not self.connected(), PATIENCE, "the end of all sessions")
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            after = self._sessions(connection)
            run.sessions = {name: after[name] - self.before[name] for name in ENGINES}
            for name, query, rows in connection.execute(
                "SELECT datname, query, rows FROM pg_stat_statements JOIN pg_database ON oid = dbid"
            ):
                if name in ENGINES and "truth" in query:
                    key = (name, operation(query))
                    run.rows[key] = run.rows.get(key, 0) + rows
        run.statements = self.server.statements(since=self.mark)

    def _sessions(self, connection: psycopg.Connection[tuple[str, int]]) -> dict[str, int]:
        return dict(connection.execute("SELECT datname, sessions FROM pg_stat_database WHERE datname IS NOT NULL"))


def operation(statement: str) -> str:
    """The first word of a statement, whatever comment is in front of it."""
    return statement.rpartition("*/")[2].split(maxsplit=1)[0].rstrip(";").upper()


@contextmanager
def stage(
    folder: Path, valkey: Valkey, number: int, receiver: Sink | None = None
) -> Iterator[tuple[Launch, Database, dict[str, str]]]:
    with receiver or Sink() as sink, Processes() as processes:
        database = Database(processes)
        env = {
            "TRUTH_LEDGER": str(folder / "ledger"),
            "TRUTH_BROKER": valkey.database(number),
            "TRUTH_DATABASE": database.server.sqlalchemy("psycopg").removesuffix("shop"),
            "OTEL_METRIC_EXPORT_INTERVAL": str(int(EXPORT_INTERVAL * 1000)),
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        yield Launch(processes, sink, folder), database, env


def perform(
    folder: Path,
    valkey: Valkey,
    number: int,
    receiver: Sink | None = None,
    halfway: Callable[[Process], object] = lambda server: None,
    **more: str,
) -> Run:
    """Everything, from the first start to the last end.

    :param number: of the broker's database
    :param receiver: where all metrics arrive in the end
    :param halfway: called with the server when half of the requests were answered and no connection is open
    :param more: variables of all processes
    """
    run = Run()
    with stage(folder, valkey, number, receiver) as (launch, database, env):
        sink = launch.sink
        env |= more
        path = Path(env["TRUTH_LEDGER"])
        queues = redis.Redis.from_url(env["TRUTH_BROKER"])

        def worker(name: str, *args: str) -> Process:
            return launch.worker(
                *("--hostname", f"{name}@truth", "--pool", "prefork", *args),
                ready=says(rf"{name}@truth ready\."),
                name=name,
                cwd=HERE,
                env={**env, "OTEL_SERVICE_NAME": name},
                wait=False,
            )

        database.begin()
        server = launch.uvicorn(
            *("--workers", str(SERVERS), "--log-level", "info", "--no-access-log"),
            app="application:app",
            cwd=HERE,
            env={**env, "OTEL_SERVICE_NAME": "web"},
            ready=says(rf"(?s)(Application startup complete.*){{{SERVERS}}}"),
            wait=False,
        )
        ordinary, deadly = worker("ordinary", "-c", "2", "-Q", "truth"), worker("deadly", "-c", "1", "-Q", "deadly")
        for started in (server.process, ordinary, deadly):
            started.wait_ready(PATIENCE)
        schedule = ["--schedule", str(folder / "schedule"), "--pidfile", ""]
        beat = launch(
            ["celery", "-A", "tasks", "beat", *schedule],
            cwd=HERE,
            env={**env, "OTEL_SERVICE_NAME": "beat"},
            name="beat",
        )

        def request(kind: str, path: str, body: bytes = b"") -> None:
            asyncio.run(send(server.port, [Planned(kind, path, body)], run.tally))

        def ended(queue: str) -> int:
            words = ledger.read(path).items()
            return sum(n for key, n in words if key[0] == "ended" and key[1] != "tick" and key[2] == queue)

        def quiet() -> bool:
            return not any(queues.llen(queue) for queue in ("truth", "deadly")) and not queues.hlen("unacked")

        made = mix()
        request("revoke", "/revoke", json.dumps(made.revoked).encode())
        half = len(made.planned) // 2
        asyncio.run(send(server.port, made.planned[:half], run.tally))
        halfway(server.process)
        asyncio.run(send(server.port, made.planned[half:], run.tally))

        runs = {
            queue: sum(RUNS.get(name, 1) * n for name, n in published.items())
            for queue, published in (("truth", PUBLISHED), ("deadly", DEADLY))
        }
        for queue, number_of_runs in runs.items():
            wait_until(lambda q=queue, n=number_of_runs: ended(q) >= n, PATIENCE, f"the end of all tasks in {queue}")
        # Whoever is terminated reports no more.
        all_reported(sink)
        for _ in range(TERMINATED):
            request("publish terminated", "/publish/terminated")
        wait_until(
            lambda: ended("truth") >= runs["truth"] + TERMINATED, PATIENCE, "the start of the tasks to terminate"
        )
        ids = [key[1] for key in ledger.read(path) if key[0] == "terminate"]
        request("terminate", "/revoke?terminate=true", json.dumps(ids).encode())
        beat.stop()
        wait_until(quiet, PATIENCE, "empty queues")

        all_reported(sink)
        for _ in range(LAST["succeeds"]):
            request("publish last", "/publish/succeeds?queue=deadly")
        for _ in range(LAST["waits"]):
            request("publish waits", "/publish/waits?queue=deadly")
        wait_until(lambda: ("started", "waits", "deadly") in ledger.read(path), PATIENCE, "the last task")
        deadly.kill()

        queues_were_read(sink)
        all_reported(sink)
        run.rested = time.time()
        run.idle = Exported(sink.exports)
        run.connected = database.connected()
        server.process.stop()
        ordinary.stop()
        queues.close()
        run.events = ledger.read(path)
        run.exported = Exported(sink.exports)
        database.end(run)
        run.ended = time.time()
    return run


def all_reported(sink: Sink) -> None:
    """Wait until every process that is alive has exported what it knows now."""
    now = time.time()
    reports = Reports(sink)
    reports.read()
    living = {who for who, times in reports.times.items() if times[-1] > now - SILENCE}

    def reported() -> bool:
        reports.read()
        # What arrives may have been collected before; the next one was not. A process that is silent has ended.
        return all(
            sum(at > now for at in reports.times[who]) >= 2 or reports.times[who][-1] < time.time() - SILENCE
            for who in living
        )

    wait_until(reported, PATIENCE, "a report of every process")


def queues_were_read(sink: Sink) -> None:
    """Wait until whoever watches the broker has looked at it after now, and has said so."""
    now = time.time()
    read = len(sink.exports)

    def said() -> bool:
        nonlocal read
        news = sink.exports[read:]
        read += len(news)
        return any(
            point.name == "celery.monitor.heartbeat.timestamp" and point.value > now
            for export in news
            if export.path == "/v1/metrics"
            for point in decode_metrics(export.body)
        )

    wait_until(said, PATIENCE, "a look at the queues")


class Reports:
    """When each process exported metrics."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.times: dict[str, list[float]] = {}
        self._read = 0

    def read(self) -> None:
        exports = self.sink.exports
        for export in exports[self._read :]:
            if export.path == "/v1/metrics":
                resource = next(iter(decode_metrics(export.body))).resource
                self.times.setdefault(str(resource["service.instance.id"]), []).append(export.at)
