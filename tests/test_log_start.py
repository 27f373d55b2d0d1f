"""Our own lines are seen, once, and can be silenced."""

from __future__ import annotations

import subprocess
import sys

import pytest

INSTALL = (
    "import logging, logging.config; from otel_cc import logs; logs.install(); log = logging.getLogger('otel_cc')\n"
)
SAY = "log.info('started'); log.debug('detail')"


def shown(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr


SHOWN = {
    "nothing configured": "",
    "a handler on the root logger": "logging.basicConfig(format='%(message)s')",
    "a handler on our logger": "log.addHandler(logging.StreamHandler())",
    "loggers disabled by a configuration": "logging.config.dictConfig({'version': 1})",
    "OpenTelemetry's handler only": (
        "handler = type('LoggingHandler', (logging.NullHandler,), {})(); logging.getLogger().addHandler(handler)"
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_start_line_is_seen_once(name: str) -> None:
    assert shown(f"{INSTALL}{SHOWN[name]}\n{SAY}") == "started\n"


SILENT = {
    "the level that the application sets": "log.setLevel('WARNING')",
    "the level in its configuration": (
        "logging.config.dictConfig({'version': 1, 'loggers': {'otel_cc': {'level': 'ERROR'}}})"
    ),
    "a root logger that it silenced": "logging.getLogger().addHandler(logging.NullHandler())",
}


@pytest.mark.parametrize("name", SILENT)
def test_our_lines_can_be_silenced(name: str) -> None:
    assert shown(f"{INSTALL}{SILENT[name]}\n{SAY}") == ""


def test_a_level_that_was_set_before_stays() -> None:
    before = "import logging; logging.getLogger('otel_cc').setLevel('WARNING')\n"
    assert shown(f"{before}{INSTALL}{SAY}") == ""
