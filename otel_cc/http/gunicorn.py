"""gunicorn's quick shutdown: the last chance of a worker that will not be asked again.

On SIGINT or SIGQUIT the master sends SIGQUIT to its workers. A uvicorn worker notes that and goes on serving
(uvicorn-worker installs ``Worker.handle_exit``, which uvicorn's loop never looks at), until the master kills it with
SIGKILL after ``--graceful-timeout``. So what it has is delivered when the signal comes.
"""

from __future__ import annotations

import threading
from typing import Any

from otel_cc import guard, lifecycle
from otel_cc.import_hook import on_import


def install() -> None:
    """Hook gunicorn's workers as soon as they are imported."""
    on_import("gunicorn.workers.base", _hook_worker)


def _hook_worker(module: Any) -> None:
    original = module.Worker.handle_exit

    def handle_exit(self: Any, sig: Any, frame: Any) -> Any:
        try:
            # In a thread: this runs in the worker's event loop, which still serves requests.
            threading.Thread(target=lifecycle.final_flush, name="otel-cc-flush", daemon=True).start()
        except Exception:
            guard.failed("gunicorn's quick shutdown")
        return original(self, sig, frame)

    module.Worker.handle_exit = handle_exit
