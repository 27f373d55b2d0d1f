"""A pytest plugin for `make test-fast`: it leaves out the tests that start a program."""

from __future__ import annotations

import pytest

# The fixtures through which programs are started; others depend on them.
STARTERS = {"servers", "launch", "own", "service", "stages"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that use none of them and whose module does not start programs itself."""
    slow = [item for item in items if _starts(item)]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def _starts(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return bool(STARTERS.intersection(getattr(item, "fixturenames", ()))) or hasattr(module, "Processes")
