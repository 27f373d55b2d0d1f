"""Resources and scopes as OTLP bytes: whose the spans and metrics of a request are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_cc.otlp.wire import attributes_of_others, message, string

# Beside the object itself, so that its id is not given to another one meanwhile.
_resources: dict[int, tuple[Any, bytes, bytes]] = {}
_scopes: dict[int, tuple[Any, bytes, bytes]] = {}
_LIMIT = 256


def resource(thing: Any) -> tuple[bytes, bytes]:
    """What stands before and after the scopes of a resource.

    :param thing: the SDK's ``Resource``
    """
    return _kept(_resources, thing, _resource)


def scope(thing: Any) -> tuple[bytes, bytes]:
    """What stands before and after the spans or metrics of a scope.

    :param thing: the SDK's ``InstrumentationScope``, or None
    """
    return _kept(_scopes, thing, _scope)


def _kept(
    table: dict[int, tuple[Any, bytes, bytes]], thing: Any, encoded: Callable[[Any], tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    found = table.get(id(thing))
    if found is None:
        if len(table) >= _LIMIT:
            table.clear()
        found = table[id(thing)] = (thing, *encoded(thing))
    return found[1], found[2]


def _resource(thing: Any) -> tuple[bytes, bytes]:
    return message(b"\n", attributes_of_others(b"\n", thing.attributes)), string(b"\x1a", thing.schema_url)


def _scope(thing: Any) -> tuple[bytes, bytes]:
    if not thing:
        return b"\n\x00", b""
    parts = (
        string(b"\n", thing.name),
        string(b"\x12", thing.version),
        attributes_of_others(b"\x1a", thing.attributes),
    )
    return message(b"\n", b"".join(parts)), string(b"\x1a", thing.schema_url)
