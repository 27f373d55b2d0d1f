"""What the process uses of the machine: CPU time and resident memory, read when metrics are collected."""

from __future__ import annotations

import os
import sys
from typing import Any

from otel_cc.metrics import Values

_USER: dict[str, Any] = {"cpu.mode": "user"}
_SYSTEM: dict[str, Any] = {"cpu.mode": "system"}


def cpu_time() -> Values:
    """Seconds since the start of this process, by mode."""
    if sys.platform == "win32":
        times = os.times()
        return [(times.user, _USER), (times.system, _SYSTEM)]
    # In microseconds, where os.times() counts hundredths of a second.
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return [(used.ru_utime, _USER), (used.ru_stime, _SYSTEM)]


def memory() -> Values:
    """Bytes of resident memory; nothing where the system tells them only to a package that we do not depend on."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except FileNotFoundError:
        return []
    return [(pages * os.sysconf("SC_PAGE_SIZE"), {})]
