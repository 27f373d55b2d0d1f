"""One real uvicorn for each way to make spans; the tests of a module share it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from otel_cc.local.process import Process, Processes
from otel_cc.local.sink import Sink
from tests.conftest import Launch
from tests.http.measured import Measured, measuring

APP = {"app.py": (Path(__file__).parent / "app.py").read_text()}

# Who makes the spans: we, contrib, or nobody.
MODES = {
    "own": {},
    "contrib": {"OTEL_CC_INSTRUMENTATION": "contrib"},
    "none": {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,sqlalchemy,celery"},
}


@dataclass
class Service:
    """A running application and the place where its telemetry arrives."""

    client: httpx.Client
    sink: Sink
    process: Process
    url: str

    def get(self, path: str, **kwargs: object) -> httpx.Response:
        return self.client.get(path, **kwargs)  # type: ignore[arg-type]


def serve(folder: Path, env: dict[str, str], *args: str, app: dict[str, str] | None = None) -> Iterator[Service]:
    with Sink() as sink, Processes() as processes:
        launch = Launch(processes, sink, folder)
        server = launch.uvicorn(*args, files=app or APP, env=env)
        # uvicorn closes the connection after an unhandled error, which a kept connection would see at the next request.
        no_keepalive = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=server.url, timeout=30, limits=no_keepalive) as client:
            yield Service(client, sink, server.process, server.url)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The application with our spans; every test clears the sink itself."""
    yield from serve(tmp_path_factory.mktemp("own"), {"OTEL_PYTHON_EXCLUDED_URLS": "/health"})


@pytest.fixture(scope="module", params=list(MODES))
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The application in each of the three modes."""
    env = {**MODES[request.param], "OTEL_PYTHON_EXCLUDED_URLS": "/health"}
    yield from serve(tmp_path_factory.mktemp(request.param), env)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    """The entrance in this process, around an ASGI application of the test."""
    with measuring(monkeypatch) as found:
        yield found
