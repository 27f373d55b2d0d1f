"""A folder in which the processes of one user find each other, below a temporary directory that is everybody's."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make(folder: Path, *owners: int) -> None:
    """Make a folder, unless it is there.

    :param owners: whose it may be, beside this user's
    :raises OSError: it cannot be made, or somebody else made it first, whose links would be followed in it
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid not in (os.getuid(), *owners):
        raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
