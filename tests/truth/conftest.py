"""The runs that all tests of this folder look at: one with our producers, one with contrib's."""

from __future__ import annotations

import pytest

from otel_cc.local.process import Processes
from otel_cc.local.valkey import Valkey
from tests.truth.stage import Run, perform

# Seconds; each takes less than one minute where nothing else runs.
TIMEOUT = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "truth":
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Run:
    return perform(tmp_path_factory.mktemp("own"), valkey, 5)


@pytest.fixture(scope="session")
def contrib(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Run:
    return perform(tmp_path_factory.mktemp("contrib"), valkey, 6, OTEL_CC_INSTRUMENTATION="contrib")


@pytest.fixture(scope="session", params=["own", "contrib"])
def run(request: pytest.FixtureRequest, servers: Processes) -> Run:
    """Each of the two, for what is the same in both."""
    found: Run = request.getfixturevalue(request.param)
    return found
