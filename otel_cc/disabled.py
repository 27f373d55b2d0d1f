"""``OTEL_CC_ENABLED=false``: step aside as if otel-cc were not installed.

Our distro and configurator may have been chosen before the switch was seen, by directory order or by the launcher; then
whatever would have been chosen without us takes their place.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro, DefaultDistro
from opentelemetry.util._importlib_metadata import entry_points

from otel_cc.settings import CHOICE

_OURS = "otel_cc"


def distro() -> BaseDistro:
    """The distro that would have been loaded without us."""
    for name, ours in CHOICE.items():
        if os.environ.get(name) == ours:
            del os.environ[name]
    for entry_point in entry_points(group="opentelemetry_distro"):
        if entry_point.name != _OURS:
            found = entry_point.load()()
            if isinstance(found, BaseDistro):
                return found
    return DefaultDistro()


def configure(**kwargs: Any) -> None:
    """Run the configurator that would have been run without us, if there is one."""
    for entry_point in entry_points(group="opentelemetry_configurator"):
        if entry_point.name != _OURS:
            entry_point.load()().configure(**kwargs)
            return
