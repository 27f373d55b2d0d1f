"""A setting of compose.yaml that is wrong or missing is a sentence that names it, and shows no password."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.compose_env import EXAMPLE, REQUIRED, ROOT, names

GOOD = "".join(f"{name}='p4ss w$rd #1'\n" for name in REQUIRED)


def check(folder: Path, text: str, **env: str) -> subprocess.CompletedProcess[str]:
    file = folder / ".env"
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "tools.compose_env", str(file)],
        env={"PATH": os.environ["PATH"], **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_example_with_passwords_is_fine_and_without_names_each(tmp_path: Path) -> None:
    done = check(tmp_path, EXAMPLE.read_text())
    assert done.returncode == 1
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == list(REQUIRED)
    done = check(tmp_path, EXAMPLE.read_text() + GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    # Without any other line the defaults of compose.yaml hold.
    assert check(tmp_path, GOOD).returncode == 0


def test_the_three_lines_for_logs_are_fine_together(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(\w+=)", r"\1", EXAMPLE.read_text()) + GOOD
    assert check(tmp_path, text).stderr == ""


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "1.5", "0.0.0.0:80", "3000-3005", "\u00b2", "'80 '"])
@pytest.mark.parametrize("name", [name for name in names() if name.endswith("_PORT")])
def test_a_wrong_port_is_named(tmp_path: Path, name: str, value: str) -> None:
    done = check(tmp_path, f"{GOOD}{name}={value}\n")
    assert re.fullmatch(rf"{name} is '.*', which is no port: set it to a number from 1 to 65535\.\n", done.stderr), (
        done.stderr
    )
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("APP_PORT=9090\nPROMETHEUS_PORT=9090", "PROMETHEUS_PORT and APP_PORT are both 9090"),
        ("GRAFANA_URL=grafana.example", "GRAFANA_URL is 'grafana.example', which is no address"),
        ("JAEGER_PUBLIC_URL=http://[", "JAEGER_PUBLIC_URL is 'http://[', which is no address"),
        ("ENVIRONMENT=a,b=c", "ENVIRONMENT is 'a,b=c': use letters"),
        ("HOST_NAME='a b'", "HOST_NAME is 'a b': use letters"),
        ("HOST_ROOT=hostfs", "HOST_ROOT is 'hostfs': set it to a path"),
        ("COLLECTOR_OVERLAY=beer", "COLLECTOR_OVERLAY is 'beer': choose from gateway, local, logs, "),
        ("APP_LOGS_EXPORTER=console", "APP_LOGS_EXPORTER is 'console': choose none or otlp."),
        ("APP_LOGS_EXPORTER=otlp", "APP_LOGS_EXPORTER is otlp, but the collector"),
        ("COMPOSE_PROFILES=log", "COMPOSE_PROFILES is 'log': the only profile is logs."),
        ("COMPOSE_PROFILES=logs", "COMPOSE_PROFILES and COLLECTOR_OVERLAY disagree"),
        ("COLLECTOR_OVERLAY=logs", "COMPOSE_PROFILES and COLLECTOR_OVERLAY disagree"),
        ("GRAFANA_PROT=3001", "GRAFANA_PROT in line 4 is no variable of compose.yaml: is it GRAFANA_PORT?"),
        ("BEER=1", "BEER in line 4 is no variable of compose.yaml."),
        ("POSTGRES_PASSWORD=abc$def", "POSTGRES_PASSWORD has a $ that compose reads as the name of a variable"),
        ('POSTGRES_PASSWORD="abc${def"', "POSTGRES_PASSWORD has a $ that compose reads as the name of a variable"),
        ("\x1b[31mbeer", "line 4 is not NAME=VALUE."),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_it(tmp_path: Path, line: str, said: str) -> None:
    done = check(tmp_path, f"{GOOD}{line}\n")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert said in sentence
    assert "abc" not in sentence
    assert sentence.isprintable()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    assert "APP_PORT is 'x'" in check(tmp_path, GOOD, APP_PORT="x").stderr
    assert check(tmp_path, GOOD + "APP_PORT=x\n", APP_PORT="1").returncode == 0


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.compose_env", str(tmp_path / "no")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == f"{tmp_path}/no is missing: copy .env.example to it and set the passwords.\n"
