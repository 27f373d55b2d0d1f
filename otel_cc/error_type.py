"""What an exception is called in telemetry: the attribute ``error.type`` of spans and metrics, and the field of a log line."""

from __future__ import annotations


def type_name(kind: type[BaseException]) -> str:
    """The name of an exception class with its module, without it for Python's own.

    :param kind: the class; https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/#error-type
    """
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
