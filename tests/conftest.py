"""What every test may use: real servers, a place where telemetry arrives, and a launcher that starts programs as users do."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from otel_cc.local import postgres as local_postgres
from otel_cc.local import rabbitmq as local_rabbitmq
from otel_cc.local import valkey as local_valkey
from otel_cc.local.process import Process, Processes, environment, free_port, keep_for_others, listens, says
from otel_cc.local.sink import Sink


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM end a test run as Ctrl-C does, so that the servers that it started are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell without job control has its background jobs ignore Ctrl-C, and the programs of the tests would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if (worker := getattr(config, "workerinput", None)) is not None:
        # Another process of the run must not choose a port of ours before its server or ours has bound it.
        mine, all_of_them = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
        keep_for_others(port for port in range(15000, 32000) if port % all_of_them != mine % all_of_them)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes (-n), begin with what takes longest, so that the others have enough to do beside it."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.isdisjoint((item.path.parent.name, item.path.name)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, keep the tests of a file together, and those of a folder that share a run.

    Groups (``--dist loadgroup``) do nothing in pytest-xdist 3.8 with pytest 9.2, where a node's ID cannot be changed.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            return str(file.parent if file.parent.name in SHARE_A_RUN else file)

    return Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the output of a test travel between processes: what it captured may hold a lone surrogate."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


SHARE_A_RUN = {"truth"}
LONGEST = {"truth", "test_outage.py"}
BIN = Path(sys.executable).parent
# Seconds that a program may take to start and to end.
PATIENCE = 60.0
# An option of uvicorn that older ones do not have, and its seconds. A worker that does not answer its supervisor for so long
# is killed, with its requests; but for one that is about to end when it is asked, the supervisor waits as long in vain.
HEALTHCHECK, ANSWER = "timeout_worker_healthcheck", 15


@pytest.fixture(scope="session")
def servers() -> Iterator[Processes]:
    """The programs that live as long as the test session."""
    with Processes() as processes:
        yield processes


@pytest.fixture(scope="session")
def postgres(servers: Processes) -> local_postgres.Postgres:
    """A PostgreSQL that logs every statement: ``.url``, ``.sqlalchemy(driver)``, ``.statements()``, ``.log()``."""
    return local_postgres.start(servers)


@pytest.fixture(scope="session")
def valkey(servers: Processes) -> local_valkey.Valkey:
    """A Valkey: ``.url``, ``.database(number)``."""
    return local_valkey.start(servers)


@pytest.fixture(scope="session")
def rabbitmq(servers: Processes) -> local_rabbitmq.RabbitMQ:
    """A RabbitMQ: ``.url``."""
    return local_rabbitmq.start(servers)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Where telemetry arrives.

    ``.endpoint``, ``.spans()``, ``.metrics()``, ``.logs()``, ``.wait_spans(n)``, and for bad days ``.refuse()`` and
    ``.black_hole()``.
    """
    with Sink() as running:
        yield running


@dataclass(frozen=True)
class Server:
    """A started web server."""

    process: Process
    url: str
    port: int


class Launch:
    """Starts programs under the stock ``opentelemetry-instrument``, in a clean environment, and stops them after the test.

    Strict mode is on, telemetry goes to the test's sink with short delays, and the status files go to the test's folder.
    """

    def __init__(self, processes: Processes, sink: Sink, folder: Path) -> None:
        self.processes = processes
        self.sink = sink
        self.folder = folder
        self._apps = 0

    def environment(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The environment of a launched program; None in ``extra`` removes a variable."""
        base = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "OTEL_CC_STRICT": "true",
            "OTEL_CC_STATUS_DIR": str(self.folder / "status"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": "test",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        merged: dict[str, str | None] = {**environment(base), **(extra or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def write(self, files: Mapping[str, str]) -> Path:
        """Write modules into a new folder of the test and return it."""
        self._apps += 1
        folder = self.folder / f"app{self._apps}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        files: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        name: str | None = None,
        instrument: bool = True,
        **start: Any,
    ) -> Process:
        """Start a program of the virtual environment.

        :param argv: the command line without the launcher; the first word is a program of the virtual environment
        :param env: variables on top of the clean environment; None removes one
        :param files: modules to write; their folder becomes the working directory
        :param instrument: False leaves the launcher out
        :param start: passed to :meth:`Processes.start` (``ready``, ``timeout``, ``wait``, ...)
        """
        program = argv[0] if "/" in argv[0] else str(BIN / argv[0])
        prefix = [str(BIN / "opentelemetry-instrument")] if instrument else []
        start.setdefault("separate_stderr", True)
        # On a busy machine a start, and an end that delivers everything, may take many times as long as usual.
        start.setdefault("timeout", PATIENCE)
        start.setdefault("stop_timeout", PATIENCE)
        return self.processes.start(
            name or Path(argv[0]).name,
            [*prefix, program, *argv[1:]],
            env=self.environment(env),
            cwd=self.write(files) if files else (cwd or self.folder),
            **start,
        )

    def uvicorn(self, *args: str, app: str = "app:app", **launch: Any) -> Server:
        """``uvicorn app:app`` on a free port; waits until it listens."""
        port = free_port()
        ready = launch.pop("ready", None) or listens(port)
        if "--workers" in args and HEALTHCHECK in inspect.signature(uvicorn.Config).parameters:
            args = (*args, f"--{HEALTHCHECK.replace('_', '-')}", str(ANSWER))
        process = self(["uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *args], ready=ready, **launch)
        return Server(process, f"http://127.0.0.1:{port}", port)

    def gunicorn(
        self, *args: str, app: str = "app:app", worker: str = "uvicorn_worker.UvicornWorker", **launch: Any
    ) -> Server:
        """``gunicorn app:app`` with uvicorn's worker on a free port; waits until a worker has started."""
        port = free_port()
        ready = launch.pop("ready", None) or says("Application startup complete")
        process = self(
            ["gunicorn", app, "--bind", f"127.0.0.1:{port}", "--worker-class", worker, *args], ready=ready, **launch
        )
        return Server(process, f"http://127.0.0.1:{port}", port)

    def worker(self, *args: str, app: str = "tasks", **launch: Any) -> Process:
        """``celery -A tasks worker``; waits until it is ready."""
        quiet = ["--loglevel", "INFO", "--without-gossip", "--without-mingle"]
        argv = ["celery", "-A", app, "worker", *quiet, *args]
        launch.setdefault("ready", says(r"celery@\S+ ready\."))
        return self(argv, name=launch.pop("name", "worker"), **launch)


@pytest.fixture
def launch(sink: Sink, tmp_path: Path) -> Iterator[Launch]:
    """``launch(["uvicorn", "app:app", ...], files={"app.py": ...}, env=...)`` starts a program under the launcher.

    Shortcuts: ``launch.uvicorn()``, ``launch.gunicorn()``, ``launch.worker()``.
    """
    with Processes() as processes:
        yield Launch(processes, sink, tmp_path)
