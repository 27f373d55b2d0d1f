"""docs/settings.md, from the table in otel_cc/settings.py."""

from __future__ import annotations

from otel_cc.settings import SETTINGS, Setting

HEAD = """\
<!-- Generated from otel_cc/settings.py by `make docs`; change the table there. -->

# Settings

Every setting is an environment variable, and none is needed. OpenTelemetry's own variables (`OTEL_SERVICE_NAME`,
`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, ...) keep their meaning, and what you set always wins over our
defaults.

A value that cannot be understood never stops the application: the default is used, and one line in the log says so. An
empty variable counts as unset. Settings are read once, when the process starts.

Not of the application, and on their own pages: the variables of [the collector](collector.md), of
[`otel-cc trace`](trace.md) and of [`make tools`](tools.md).

| variable | default | accepts | what it does |
|---|---|---|---|
"""

TAIL = """
## Verify it worked

Start the application under `opentelemetry-instrument` with a value that cannot be right, for example:

```sh
OTEL_CC_SQL_COMMENT=sometimes opentelemetry-instrument uvicorn app:app
```

The log should say which value was refused, what is used instead and what may be written. Without such a line each
variable that you set was understood; a misspelt name that begins with `OTEL_CC_` is named too.
"""


def row(setting: Setting) -> str:
    """One line of the table; nothing in it can break out of its cell."""
    default = f"`{setting.default}`" if setting.default else "empty"
    cells = (f"`{setting.variable}`", default, setting.accepts, setting.text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def page(_: str) -> str:
    """The whole page."""
    return HEAD + "".join(map(row, SETTINGS)) + TAIL
