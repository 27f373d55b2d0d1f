"""Puts the SQL carrier in place: the hook on SQLAlchemy's engines, when the application imports it."""

from __future__ import annotations

from otel_cc import settings
from otel_cc.import_hook import on_import
from otel_cc.sql.engine import hook
from otel_cc.sql.switches import switches


def install() -> None:
    """Hook SQLAlchemy as soon as it is imported, unless neither comments nor spans of ours are wanted."""
    options = settings.get()
    switches.comments = options.sql_comment
    if options.sql_comment != "off" or options.instrumentation == "own":
        on_import("sqlalchemy.engine.base", hook)
