"""What this process did at start: what was instrumented, what was skipped and why, where telemetry goes.

One log line says it, and one small file per process, which ``otel-cc status`` reads. Both are written when the process
starts to serve, so that supervisors and other helper processes say nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from otel_cc import settings, shared_folder
from otel_cc.version import __version__

logger = logging.getLogger("otel_cc")

# Modules that show that another tracer works in the same process; two tracers mean two sets of spans and headers.
_OTHER_TRACERS = {
    "ddtrace": "ddtrace",
    "newrelic.agent": "newrelic",
    "elasticapm": "elasticapm",
    "scout_apm": "scout_apm",
}

# Libraries that are hooked when they are imported.
_ON_IMPORT = frozenset({"fastapi", "sqlalchemy", "celery"})

_instrumented: dict[str, str] = {}
_skipped: dict[str, str] = {}
_destinations: dict[str, str] = {}


def instrumented(name: str, how: str) -> None:
    """Record that a library is instrumented.

    :param name: the library
    :param how: "own", "contrib", or what else makes its telemetry
    """
    _skipped.pop(name, None)
    _instrumented[name] = how


def skipped(name: str, why: str) -> None:
    """Record that a library is not instrumented, and the reason a reader can act on."""
    if name not in _instrumented:
        _skipped[name] = why


def destination(signal: str, where: str) -> None:
    """Record where a signal ("traces", "metrics", "logs") goes; never with credentials in it."""
    _destinations[signal] = where


def other_tracers() -> list[str]:
    """Names of other tracers that are active in this process."""
    found = [name for module, name in _OTHER_TRACERS.items() if module in sys.modules]
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None:
        try:
            options = sentry.get_client().options or {}
        except Exception:
            options = {}
        if options.get("traces_sample_rate") is not None or options.get("traces_sampler") is not None:
            found.append("sentry (with traces)")
    return found


def snapshot(kind: str) -> dict[str, Any]:
    """Everything of this process, as it goes into the status file."""
    # Our hooks wait for the import of a library; what this process does not use is not instrumented.
    unused = {name: "not imported" for name in _instrumented if name in _ON_IMPORT and name not in sys.modules}
    return {
        "pid": os.getpid(),
        "kind": kind,
        "version": __version__,
        "service": os.environ.get("OTEL_SERVICE_NAME", ""),
        "command": " ".join(sys.orig_argv)[:500],
        "started": time.time(),
        "instrumented": {name: how for name, how in sorted(_instrumented.items()) if name not in unused},
        "skipped": dict(sorted({**_skipped, **unused}.items())),
        "destinations": dict(_destinations),
        "other_tracers": other_tracers(),
        "problems": list(settings.get().problems),
    }


def line(state: dict[str, Any]) -> str:
    """The start line: one sentence a person can read in the log."""

    def pairs(values: dict[str, str]) -> str:
        return ", ".join(f"{name} ({value})" for name, value in values.items()) or "nothing"

    text = f"otel-cc {state['version']} in {state['kind']} process {state['pid']}: instrumented {pairs(state['instrumented'])}"
    if state["skipped"]:
        text += f"; skipped {pairs(state['skipped'])}"
    where = ", ".join(f"{signal} to {place}" for signal, place in state["destinations"].items())
    text += f"; {where or 'telemetry goes nowhere'}"
    if state["other_tracers"]:
        text += f"; also active here: {', '.join(state['other_tracers'])}"
    return text + "."


_OFF = "off"


def shared_dir() -> Path:
    """The folder in which the processes of a user find each other, also where no status is wanted."""
    configured = settings.get().status_dir
    # The user's own number keeps users apart in a shared temporary directory.
    default = Path(tempfile.gettempdir()) / f"otel-cc-{os.getuid()}"
    return default if configured in ("", _OFF) else Path(configured)


def status_dir() -> Path | None:
    """The folder of the status files, or None when they are switched off."""
    return None if settings.get().status_dir == _OFF else shared_dir()


def publish(kind: str) -> None:
    """Write the start line and the status file of this process."""
    state = snapshot(kind)
    logger.info("%s", line(state))
    folder = status_dir()
    if folder is None:
        return
    try:
        shared_folder.make(folder)
        target = folder / f"{state['pid']}.json"
        partial = target.with_suffix(".tmp")
        partial.write_text(json.dumps(state))
        partial.replace(target)
    except OSError as error:
        logger.warning("no status is written to %s (%s): set OTEL_CC_STATUS_DIR.", folder, error)


def withdraw() -> None:
    """Remove the status file at the end of this process."""
    folder = status_dir()
    if folder is not None:
        try:
            (folder / f"{os.getpid()}.json").unlink(missing_ok=True)
        except OSError:
            pass
