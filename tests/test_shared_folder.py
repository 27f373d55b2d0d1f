"""A folder below a temporary directory is used only where nobody else can have prepared it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_cc import shared_folder


def test_it_is_made_for_this_user_alone_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "otel-cc"
    shared_folder.make(folder)
    shared_folder.make(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_one_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="it belongs to another user"):
        shared_folder.make(tmp_path)
    shared_folder.make(tmp_path, owner)
