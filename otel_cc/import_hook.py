"""What is done when the application imports a library: a hook that fails costs the library its telemetry, not its import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wrapt

from otel_cc import guard


def on_import(module: str, hook: Callable[[Any], object]) -> None:
    """Call ``hook`` with a module when it is imported, or at once where it is already.

    :param module: its full name
    :param hook: relies on what a new version of the library may have renamed: wrapt lets its exception out of the import
    """

    def guarded(imported: Any) -> None:
        try:
            hook(imported)
        except Exception:
            guard.failed(f"the hook on {module}")

    wrapt.register_post_import_hook(guarded, module)
