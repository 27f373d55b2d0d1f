"""A setting of compose.yaml that is wrong or missing is a sentence that names it, and shows no password."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_cc.local import programs
from tools.compose_env import EXAMPLE, OVERLAYS, REQUIRED, ROOT, names, read

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
        timeout=60,
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
        ("APP_PORT=3000", "GRAFANA_PORT and APP_PORT are both 3000"),
        ("GRAFANA_URL=http://grafana example", "GRAFANA_URL is 'http://grafana example', which is no address"),
        ("GRAFANA_URL='http://a\"b'", "GRAFANA_URL is 'http://a\"b', which is no address"),
        ("COLLECTOR_OVERLAY=beer", "COLLECTOR_OVERLAY is 'beer': choose from local, logs, tail-sampling."),
        # They want a token and certificates, or another Prometheus: the collector would start again and again, or in vain.
        ("COLLECTOR_OVERLAY=production", "COLLECTOR_OVERLAY is 'production': choose from local, logs, tail-sampling."),
        ("COLLECTOR_OVERLAY=gateway", "COLLECTOR_OVERLAY is 'gateway': choose from local, logs, tail-sampling."),
        ("COLLECTOR_OVERLAY=pull", "COLLECTOR_OVERLAY is 'pull': choose from local, logs, tail-sampling."),
        ("APP_LOGS_EXPORTER=console", "APP_LOGS_EXPORTER is 'console': choose none or otlp."),
        ("APP_LOGS_EXPORTER=otlp", "APP_LOGS_EXPORTER is otlp, but the collector"),
        ("COMPOSE_PROFILES=log", "COMPOSE_PROFILES is 'log': the only profile is logs."),
        ("COMPOSE_PROFILES=logs", "COMPOSE_PROFILES and COLLECTOR_OVERLAY disagree"),
        ("COLLECTOR_OVERLAY=logs", "COMPOSE_PROFILES and COLLECTOR_OVERLAY disagree"),
        ("GRAFANA_PROT=3001", "GRAFANA_PROT in line 4 is no variable of compose.yaml: is it GRAFANA_PORT?"),
        ("BEER=1", "BEER in line 4 is no variable of compose.yaml."),
        ("POSTGRES_PASSWORD=abc$def", "POSTGRES_PASSWORD has a $ that compose reads as the name of a variable"),
        ('POSTGRES_PASSWORD="abc${def"', "POSTGRES_PASSWORD has a $ that compose reads as the name of a variable"),
        ("POSTGRES_PASSWORD=abc$$def", "POSTGRES_PASSWORD has a $ that compose reads as the name of a variable"),
        ('POSTGRES_PASSWORD="abc\\ndef"', "POSTGRES_PASSWORD has a \\ that compose does not take as it is"),
        ("EXPORTER_PASSWORD=' abc'", "EXPORTER_PASSWORD begins or ends with a space"),
        ("EXPORTER_PASSWORD='abc '", "EXPORTER_PASSWORD begins or ends with a space"),
        ("EXPORTER_PASSWORD='a\x07bc'", "or has a control character: choose another password."),
        ("EXPORTER_PASSWORD='abc", "line 4, which sets EXPORTER_PASSWORD, has a quote without an end"),
        ("EXPORTER_PASSWORD='abc'd'", "line 4, which sets EXPORTER_PASSWORD, has a quote without an end"),
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


def test_every_overlay_that_may_be_chosen_is_there_and_in_the_documentation(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        assert (ROOT / "collector" / "overlays" / f"{overlay}.yaml").exists()
        logs = "COMPOSE_PROFILES=logs\n" if overlay == "logs" else ""
        assert check(tmp_path, f"{GOOD}{logs}COLLECTOR_OVERLAY={overlay}\n").stderr == ""
    (row,) = re.findall(r"^\| `COLLECTOR_OVERLAY` \|.*", (ROOT / "docs" / "compose.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([a-z-]+)`", row)) == set(OVERLAYS)


@pytest.mark.programs
@pytest.mark.parametrize(
    "line",
    [
        *("V=a", "V = a", "export V=a", "V=", "V=''", 'V=""', "V=a b", "V='a b'", 'V="a b"', "V=' a '", "V=\u00e9"),
        *("V=a # c", "V=a# c", "V=a#c", "V=#c", "V= #c", "V='a' # c", 'V="a" # c', "V='a#c'", "V=a\t# c", "V=a\r"),
        *(
            "V='a$b'",
            "V='a${b}'",
            "V='a$$b'",
            "V=a$",
            "V=a$1",
            "V=a$(b)",
            "V=a`b`",
            "V='a\\'b'",
            "V='a\\\\b'",
            "V=a\\nb",
        ),
        *("V=a'b", 'V=a"b', "V='a\"b'", 'V="a\'b"', "V=a\nV=b", f"V={'a' * 5000}"),
    ],
)
def test_a_value_that_is_taken_is_what_compose_reads(tmp_path: Path, line: str) -> None:
    (tmp_path / "env").write_text(line)
    (tmp_path / "compose.yaml").write_text('services: {a: {image: x, environment: {V: "${V-unset}"}}}')
    done = subprocess.run(
        [programs.find("compose-config"), "-env-file", "env", "compose.yaml"],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *_, (_, _, value, _) = read(line)
    assert value == json.loads(done.stdout)["services"]["a"]["environment"]["V"]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert check(tmp_path, f"\ufeff{GOOD}").stderr == ""
