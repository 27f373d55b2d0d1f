"""A pytest plugin for `make test-fast`: it leaves out the tests that start a program."""

from __future__ import annotations

import pytest

# The two fixtures of tests/conftest.py through which every program is started; others depend on them.
STARTERS = {"servers", "launch"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that use neither."""
    slow = [item for item in items if STARTERS.intersection(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
