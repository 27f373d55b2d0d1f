"""Which command lines start a worker on green threads, and that looking costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_cc.celery.greenlets import command, green_pool, patch_green_pools

COMMANDS = {
    "/venv/bin/python /venv/bin/celery -A shop worker -P gevent": "gevent",
    "python celery -A shop worker --pool eventlet": "eventlet",
    "python celery -A shop worker --pool=gevent": "gevent",
    "python -m celery -A shop worker -P eventlet": "eventlet",
    "python -mcelery worker -P gevent": "gevent",
    "python -X dev -W error -u -m celery worker -P gevent": "gevent",
    "python /site-packages/celery/__main__.py worker -P gevent": "gevent",
    r"C:\python.exe celery.exe worker -P gevent": "gevent",
    "python celery -A shop worker -P prefork": None,
    "python celery -A shop worker -P": None,
    "python celery -A shop worker": None,
    "python celery -A shop beat": None,
    "python celery multi start 3 -P gevent": None,
    "python uvicorn celery -P gevent": None,
    "python -m gunicorn -P gevent": None,
    "python -m": None,
    "python -m celery": None,
    "python": None,
    "": None,
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_green_pool_is_read_from_the_command_line_as_celery_reads_it(line: str) -> None:
    assert green_pool(command(line.split())) == COMMANDS[line]


def test_another_program_is_left_alone() -> None:
    assert patch_green_pools([sys.executable, "/usr/bin/uvicorn", "shop:app"]) is None


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, check=True
    )
    return set(done.stdout.decode().split())


def test_looking_imports_neither_the_sdk_nor_what_must_not_be_imported_before_the_patch() -> None:
    heavy = {
        "opentelemetry",
        "opentelemetry.sdk",
        "requests",
        "urllib3",
        "ssl",
        "kombu",
        "redis",
        "celery",
        "threading",
    }
    modules = loaded(
        "from otel_cc.celery.greenlets import patch_green_pools; patch_green_pools(['python', 'celery', 'worker'])"
    )
    assert not heavy & modules


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_the_patch_comes_before_everything_that_it_must_patch(pool: str) -> None:
    line = ["python", "celery", "worker", "-P", pool]
    modules = loaded(
        f"import sys; from otel_cc.celery.greenlets import patch_green_pools; patched = patch_green_pools({line});"
        f"assert patched == {pool!r}; import time; assert time.sleep.__module__.startswith({pool!r}), time.sleep"
    )
    assert not {"opentelemetry.sdk", "requests", "urllib3"} & modules
