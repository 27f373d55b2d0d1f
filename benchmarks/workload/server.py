"""The application of the start-up measurement: it imports all three libraries, as a real service does."""

from __future__ import annotations

import os
import resource
import sys

from benchmarks.workload import tasks
from benchmarks.workload.app import build

app = build()
app.state.celery = tasks.app


@app.get("/usage")
async def usage() -> dict[str, float]:
    """CPU seconds (with the launcher, which became this process) and resident megabytes until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "rss_mb": _resident() / 1e6, "modules": len(sys.modules)}


def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # macOS: the peak, in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
