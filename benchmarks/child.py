"""The parent's end of a measured process: one order out, one answer back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

# Long enough for a slow machine to deliver its telemetry at the end, in seconds.
_END = 30


class ChildError(Exception):
    """A measured process failed; the text has the end of what it wrote."""


class Child:
    """A measured process that waits for orders.

    :param name: for messages
    """

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._errors = TemporaryFile(dir=folder)  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            command,
            env=environ,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, **order: Any) -> dict[str, float]:
        """Give an order and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ChildError(f"{self.name} ended:\n{self.log()}") from None
        return self.answer()

    def answer(self) -> dict[str, float]:
        """The next line of the process; the first one says that it is ready."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"{self.name} ended:\n{self.log()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def log(self) -> str:
        """The end of what it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]
