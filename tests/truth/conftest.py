"""The run that all tests of this folder look at."""

from __future__ import annotations

import pytest

from otel_cc.local.valkey import Valkey
from tests.truth.stage import Run, perform


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Run:
    return perform(tmp_path_factory.mktemp("own"), valkey, 5)
