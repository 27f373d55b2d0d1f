"""A pytest plugin for `make test-fast`: it leaves out the tests that need what `make tools` builds, or Go itself."""

from __future__ import annotations

from pathlib import Path

import pytest

STACK = Path(__file__).parent.parent / "tests" / "stack"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is neither in tests/stack nor marked `programs`."""
    left = [item for item in items if STACK in item.path.parents or item.get_closest_marker("programs")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
