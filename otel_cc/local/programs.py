"""Where the programs are that ``make tools`` builds: the collector, Prometheus, Alertmanager, Jaeger, the exporters."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from otel_cc.local.program import ProcessError


def of_user(variable: str, usual: str) -> Path:
    """A folder of this user: what the variable names, or the usual place below the home.

    :raises ProcessError: neither is there; a container may run as a user whom its system does not know
    """
    if named := os.environ.get(variable):
        return Path(named)
    try:
        return Path.home() / usual
    except RuntimeError:
        raise ProcessError(
            f"this user has no home and HOME is not set: set {variable} to a folder that can be written."
        ) from None


def folder() -> Path:
    """Where ``make tools`` puts them; OTEL_CC_PROGRAMS names another folder.

    :raises ProcessError: there is no home for it
    """
    if named := os.environ.get("OTEL_CC_PROGRAMS"):
        return Path(named)
    return of_user("XDG_CACHE_HOME", ".cache") / "otel-cc" / "programs" / "bin"


def find(name: str) -> str:
    """The path of a program.

    :param name: e.g. "otelcol-cc", "prometheus", "promtool", "jaeger"
    :raises ProcessError: it is neither there nor on the PATH, or there is no home to look in
    """
    found = shutil.which(name, path=str(folder())) or shutil.which(name)
    if found is None:
        raise ProcessError(f"the program {name} is missing: run `make tools`, or set OTEL_CC_PROGRAMS to its folder.")
    return found
