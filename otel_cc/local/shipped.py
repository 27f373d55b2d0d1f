"""Where the files are that an operator deploys, and the shop of the demo: in the installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from otel_cc.local.program import ProcessError


def shipped(name: str) -> Path:
    """A file or folder that comes with the package.

    :param name: its path in the checkout, e.g. "collector" or "compose.yaml"
    :raises ProcessError: the installation has lost it
    """
    package = Path(__file__).parent.parent
    for folder in (package / "shipped", package.parent):
        if (folder / name).exists():
            return folder / name
    raise ProcessError(f"{name} is missing from this installation: pip install --force-reinstall otel-cc.")
