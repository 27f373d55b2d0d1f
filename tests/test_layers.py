"""The layers of the house, read from the source: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "otel_cc"
LEAVES = (
    "context",
    "error_type",
    "guard",
    "living",
    "request_id",
    "sdk_variables",
    "settings",
    "shared_folder",
    "version",
    "http.messages",
    "sql.comment",
    "metrics.catalogue",
    "metrics.late",
)
HOSTS = ("http", "sql", "celery")
LIBRARIES = ("fastapi", "starlette", "sqlalchemy", "celery", "kombu", "billiard")
# What stands beside the package in the checkout: the package must work where only the package is installed.
BESIDE = ("alerts", "benchmarks", "collector", "examples", "grafana", "tests", "tools")


@dataclass(frozen=True)
class Import:
    """One import statement, or a module name that is given to importlib.

    :param importer: the module it stands in
    :param target: the module it names
    :param typing: whether only the type checker sees it
    """

    importer: str
    target: str
    line: int
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.target} in line {self.line}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def targets(node: ast.AST, importer: str) -> Iterator[str]:
    """The modules that one node of the syntax tree names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = importer if MODULES[importer].name == "__init__.py" else importer.rpartition(".")[0]
            base = ".".join(filter(None, [*package.split(".")[: len(package.split(".")) - node.level + 1], base]))
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in MODULES else base
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("otel_cc."):
        # The argument of importlib.import_module, or an entry point.
        name = node.value.partition(":")[0]
        if name in MODULES:
            yield name


def imports(importer: str, source: str) -> list[Import]:
    tree = ast.parse(source)
    typing: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing.update(inner for statement in node.body for inner in ast.walk(statement))
    return [
        Import(importer, target, node.lineno, node in typing)
        for node in ast.walk(tree)
        for target in targets(node, importer)
    ]


ALL = [found for name, path in MODULES.items() for found in imports(name, path.read_text())]


def ours(name: str) -> bool:
    return name.split(".")[0] == "otel_cc"


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"otel_cc.{package}.")


def complaints(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_the_reader_of_imports_sees_every_form() -> None:
    source = """
import otel_cc.guard as g, celery.app
from otel_cc import settings, request_id as r
from otel_cc.http.errors import extending
from . import carriers
from ..sql import comment
if TYPE_CHECKING:
    from otel_cc.context import Correlation
def later():
    from otel_cc.sql.comment import key
    importlib.import_module("otel_cc.sdk")
    entry_point("otel_cc.distro:OtelCcDistro")
    log("otel_cc.is.no.module")
"""
    found = imports("otel_cc.http.carriers", source)
    assert sorted(i.target for i in found if not i.typing) == [
        "celery.app",
        "otel_cc.distro",
        "otel_cc.guard",
        "otel_cc.http.carriers",
        "otel_cc.http.errors",
        "otel_cc.request_id",
        "otel_cc.sdk",
        "otel_cc.settings",
        "otel_cc.sql.comment",
        "otel_cc.sql.comment",
    ]
    assert [i.target for i in found if i.typing] == ["otel_cc.context"]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_of_ours(leaf: str) -> None:
    assert f"otel_cc.{leaf}" in MODULES
    assert not (found := [i for i in ALL if i.importer == f"otel_cc.{leaf}" and ours(i.target)]), complaints(found)


def test_the_three_hosts_never_import_each_other() -> None:
    found = [
        i
        for i in ALL
        for host in HOSTS
        for other in HOSTS
        if host != other and within(i.importer, host) and within(i.target, other)
    ]
    assert not found, complaints(found)


def test_what_every_host_uses_imports_no_host() -> None:
    shared = ("tracing", "otlp", "metrics", "lifecycle", "fork", "report")
    found = [
        i
        for i in ALL
        if any(within(i.importer, package) for package in shared) and any(within(i.target, host) for host in HOSTS)
    ]
    assert not found, complaints(found)


def test_nobody_imports_the_command_line() -> None:
    found = [i for i in ALL if within(i.target, "cli") and not within(i.importer, "cli")]
    assert not found, complaints(found)


def test_only_the_command_line_imports_the_local_programs() -> None:
    found = [
        i
        for i in ALL
        if within(i.target, "local") and not within(i.importer, "local") and not within(i.importer, "cli")
    ]
    assert not found, complaints(found)


def test_the_package_imports_nothing_that_stands_beside_it() -> None:
    found = [i for i in ALL if i.target.split(".")[0] in BESIDE]
    assert not found, complaints(found)


def test_each_library_is_imported_only_by_its_host() -> None:
    homes = {"fastapi": "http", "starlette": "http", "sqlalchemy": "sql", "celery": "celery", "kombu": "celery"}
    found = [
        i
        for i in ALL
        if (library := i.target.split(".")[0]) in homes
        and not i.typing
        and not within(i.importer, homes[library])
        and not within(i.importer, "local")
    ]
    assert not found, complaints(found)


def test_no_module_imports_itself_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for i in ALL:
        if ours(i.target) and i.target != i.importer:
            graph[i.importer].add(i.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in a fresh Python after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import otel_cc",
        "import otel_cc.launcher",
        "import otel_cc.distro",
        "import otel_cc.sdk",
        "from otel_cc.distro import OtelCcDistro; OtelCcDistro().configure()",
    ],
)
def test_a_process_that_uses_no_library_imports_none(statement: str) -> None:
    assert loaded_by(statement).isdisjoint(LIBRARIES)


@pytest.mark.parametrize("module", ["otel_cc", "otel_cc.launcher"])
def test_the_launcher_process_does_not_even_import_opentelemetry(module: str) -> None:
    assert "opentelemetry" not in loaded_by(f"import {module}")
