"""A library whose names have changed is imported all the same; it only has no telemetry."""

from __future__ import annotations

from tests.conftest import Launch

# Every module that is hooked, with nothing in it that we know.
HOOKED = (
    "celery.app.base",
    "celery.app.trace",
    "celery.signals",
    "celery.worker.consumer.consumer",
    "celery.worker.strategy",
    "fastapi.applications",
    "gunicorn.workers.base",
    "sqlalchemy.engine.base",
    "starlette.middleware.cors",
    "starlette.middleware.exceptions",
    "starlette.routing",
)


def test_a_library_that_renamed_what_is_hooked_is_imported(launch: Launch) -> None:
    files = {"main.py": "".join(f"import {name}\n" for name in HOOKED) + "print('all of them are here', flush=True)\n"}
    for name in HOOKED:
        parts = name.split(".")
        files |= {"/".join([*parts[:depth], "__init__.py"]): "" for depth in range(1, len(parts))}
        files["/".join(parts) + ".py"] = ""
    program = launch(["python", "main.py"], files=files, env={"OTEL_CC_STRICT": None})
    assert program.wait(60) == 0, program.tail()
    output = program.output()
    assert "all of them are here" in output
    for name in HOOKED:
        assert f"otel-cc failed in the hook on {name}; the application goes on without it there" in output
