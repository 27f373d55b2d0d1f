"""Where the programs are that ``make tools`` builds: the collector, Prometheus, Alertmanager, Jaeger, the exporters."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from otel_cc.local.program import ProcessError


def folder() -> Path:
    """Where ``make tools`` puts them; OTEL_CC_PROGRAMS names another folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("OTEL_CC_PROGRAMS") or cache / "otel-cc" / "programs" / "bin")


def find(name: str) -> str:
    """The path of a program.

    :param name: e.g. "otelcol-cc", "prometheus", "promtool", "jaeger"
    :raises ProcessError: it is neither there nor on the PATH
    """
    found = shutil.which(name, path=str(folder())) or shutil.which(name)
    if found is None:
        raise ProcessError(f"the program {name} is missing: run `make tools`, or set OTEL_CC_PROGRAMS to its folder.")
    return found
