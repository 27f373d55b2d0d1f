"""The matrix: each set of library versions (constraints/*.lock) on each supported Python that this machine has.

``nox --list`` names the sessions, ``nox -s oldest-3.10`` runs one, ``nox -t corners`` the oldest of all and the newest
of all, ``nox -t oldest`` the first of them; `make test` is what tests the newest.
FastAPI, SQLAlchemy and Celery are independent of each other here (tests/test_layers.py), so three sets of versions
cover each version of each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tools import interpreters  # noqa: E402  the path has to be set first
from tools.lock import LOCKS  # noqa: E402

PYTHONS = interpreters.find()
CORNERS = {
    f"oldest-{next(iter(PYTHONS))}": ["corners", "oldest"],
    f"newest-{next(reversed(PYTHONS))}": ["corners"],
}

# Outside of the checkout, so that a fresh clone finds them.
ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-cc" / "matrix"

PARALLEL = ("-n", "3", "--dist", "loadscope", "--no-loadscope-reorder")
# What depends on the versions of the libraries; the rest is tested once, by `make test`.
TESTS = (
    "tests/tracing",
    "tests/otlp",
    "tests/metrics",
    "tests/http",
    "tests/sql",
    "tests/celery",
    "tests/process",
    "tests/test_context.py",
    "tests/test_error_count.py",
    "tests/test_fork.py",
    "tests/test_identity.py",
    "tests/test_launcher.py",
    "tests/test_lifecycle.py",
    "tests/test_log_lines.py",
    "tests/test_logs.py",
    "tests/test_path.py",
    "tests/test_structlog_fields.py",
)
# Celery 5.3 itself keeps every application alive that has published.
KEPT = "tests/celery/test_monitor.py::test_applications_come_and_go_and_more_than_a_process_can_look_at_are_left_out"
# uvicorn 0.30 does not tell where it listens when that is a Unix socket.
UNTOLD = "tests/http/test_measures.py::test_a_proxy_is_known_on_a_unix_socket"
# A minute of waiting for time limits of our own, whatever the libraries are.
WAITS = "tests/test_lifecycle.py::test_an_unreachable_backend_does_not_delay_the_exit"


def register(lock: str, version: str, python: Path) -> None:
    """Make the session of one set on one Python."""
    name = f"{lock}-{version}"

    @nox.session(name=name, venv_backend="none", tags=CORNERS.get(name, []))
    def tests(session: nox.Session) -> None:
        environment = ENVIRONMENTS / name
        session.run(str(python), "tools/venv.py", str(environment), f"constraints/{lock}.lock", external=True)
        what = session.posargs or [*TESTS, "--deselect", WAITS]
        if lock != "newest" and not session.posargs:
            # The extra `prometheus` asks for a newer opentelemetry-exporter-prometheus than these libraries go with.
            what.append("--ignore=tests/metrics/pull")
        if lock == "oldest" and not session.posargs:
            # OpenTelemetry before 1.45 has no client apart from its exporters: theirs are used as they are.
            what += ["--ignore=tests/otlp/test_client.py", "--ignore=tests/otlp/test_transport.py"]
            what += ["--deselect", KEPT, "--deselect", UNTOLD]
            # The shop of the demo is written for SQLAlchemy 2.0.
            what.remove("tests/test_path.py")
        session.run(str(environment / "bin" / "python"), "-m", "pytest", *PARALLEL, *what, external=True)

    tests.__doc__ = f"Python {version} with the {lock} libraries."


for _lock in LOCKS:
    for _version, _python in PYTHONS.items():
        register(_lock, _version, _python)
