"""Packages of the extras ``demo`` and ``tools``: asked for by name, so that a missing one is a sentence with its cure."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


class Missing(Exception):
    """A package is not installed; the text says what to install."""


def need(module: str, extra: str = "demo") -> ModuleType:
    """Import a module of an extra.

    :raises Missing: it is not installed
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Missing(f"{error.name} is not installed: pip install 'otel-cc[{extra}]'.") from error


def folder(package: str, extra: str = "demo") -> Path:
    """The folder of a package that is only wanted for its files: importing it would run its code.

    :raises Missing: it is not installed
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise Missing(f"{package} is not installed: pip install 'otel-cc[{extra}]'.")
    return Path(spec.origin).parent
