from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_cc.local.process import Processes


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as running:
        yield running
