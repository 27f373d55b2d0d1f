"""otel-cc: one ID for each request through FastAPI, SQLAlchemy and Celery, without code.

Nothing here has to be imported; start the application with ``opentelemetry-instrument``. An application that wants to
show the ID itself may ask for it::

    import otel_cc

    otel_cc.current_request_id()  # '0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c10', or None outside of a request or task
"""

from __future__ import annotations

from otel_cc.version import __version__

__all__ = ["__version__", "current_request_id"]


def current_request_id() -> str | None:
    """The request ID of the running request or task, or None outside of one."""
    from otel_cc.context import current

    correlation = current()
    return None if correlation is None else correlation.request_id
