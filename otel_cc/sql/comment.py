"""The text of the SQL comment: how the ID travels into the database without any value breaking out of it.

The format is the sqlcommenter's (https://google.github.io/sqlcommenter/spec/): sorted ``key='value'`` pairs, both
percent-encoded, inside ``/* */``. After the encoding a value has only ``[A-Za-z0-9_.~/%-]``, so there is no ``*/``, no
quote, no placeholder and no newline left in it::

    >>> comment({"request_id": "order-42", "route": "/items/{id}", "db_driver": "psycopg"})
    "/*db_driver='psycopg',request_id='order-42',route='/items/%7Bid%7D'*/"

The comment goes in front of the statement, where the specification has it behind, for three reasons. PostgreSQL shows
the first 1024 bytes of a running statement (``track_activity_query_size``) and statements of an ORM are longer. A
statement that ends in ``-- a line comment`` or in ``;`` would swallow or detach what follows. And pg_stat_statements of
PostgreSQL 18 and later drops a leading comment, so its text never shows the ID of some old request. The price: before
18 such a text begins with the comment, and proxies that route by the first word have to skip it (pgpool:
``allow_sql_comments = on``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

LIMIT = 256

# The same alphabet that quoting leaves alone: such a value (a UUID, a trace ID, a route without parameters) needs none.
_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]{1,256}").fullmatch
_PARTIAL = re.compile(r"%[0-9A-F]?\Z")
_ESCAPE = "%XX"


def quote(value: object, limit: int = LIMIT) -> str:
    """A key or value as it may stand in the comment: percent-encoded, at most ``limit`` characters. Never raises.

    :param value: anything; what is neither text nor bytes becomes ``str(value)``, never ``repr(value)``
    :param limit: characters after the encoding; the cut splits neither a ``%XX`` nor a character of the value
    """
    if type(value) is str and limit >= LIMIT and _PLAIN(value):
        return value
    # One character gives at least one encoded character, so what is beyond the limit here can never be needed.
    encoded = quote_from_bytes(_encode(value, limit), safe="/~")
    return encoded if len(encoded) <= limit else _cut(encoded, limit)


def _encode(value: object, limit: int) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value[:limit]).decode("utf-8", "replace")
    elif not isinstance(value, str):
        try:
            value = str(value)
        except Exception:
            # An object that cannot say what it is has nothing to say in a comment either.
            return b""
    # str's own methods, whatever a subclass has made of them. A lone surrogate becomes "?".
    return str.encode(str.__getitem__(value, slice(limit)), "utf-8", "replace")


def _cut(encoded: str, limit: int) -> str:
    encoded = _PARTIAL.sub("", encoded[:limit])
    for _ in range(4):
        try:
            unquote_to_bytes(encoded).decode()
        except UnicodeDecodeError:
            encoded = encoded[: -len(_ESCAPE)]
        else:
            break
    return encoded


def comment(tags: Mapping[str, object]) -> str:
    """The comment, or "" when there is nothing to say.

    :param tags: keys and values; None leaves its key out
    """
    pairs = [
        _pair(key, value) if type(value) is str and len(value) <= LIMIT else f"{quote(key)}='{_quoted(value)}'"
        for key, value in sorted(tags.items())
        if value is not None
    ]
    return f"/*{','.join(pairs)}*/" if pairs else ""


@lru_cache(maxsize=1024)
def _pair(key: str, value: str) -> str:
    # Drivers, routes and frameworks are always the same, and a request ID stays for the whole request.
    return f"{quote(key)}='{quote(value)}'"


class Traceparent(str):
    """A trace context that :func:`traceparent` built from numbers: there is nothing in it to quote."""


def _quoted(value: object) -> str:
    return value if type(value) is Traceparent else quote(value)


def traceparent(trace_id: int, span_id: int, flags: int) -> Traceparent:
    """The W3C trace context of a span, built from numbers so that nothing else can be in it.

    :param trace_id: 128 bits
    :param span_id: 64 bits
    :param flags: 8 bits
    """
    return Traceparent(f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}")


def attach(text: str, statement: str, interpolated: bool) -> str:
    """A statement with its comment in front.

    :param text: the result of :func:`comment`
    :param statement: the SQL
    :param interpolated: whether the driver reads ``%`` as the begin of a parameter in this execution (paramstyles format
        and pyformat with parameters); others would send a doubled ``%`` to the server as it is
    """
    if interpolated and "%" in text:
        text = text.replace("%", "%%")
    return f"{text} {statement}" if text else statement
