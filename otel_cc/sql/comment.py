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
from bisect import bisect
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

LIMIT = 256

# The same alphabet that quoting leaves alone: such a value (a UUID, a trace ID, a route without parameters) needs none.
_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]{1,256}").fullmatch
_PARTIAL = re.compile(r"%[0-9A-F]?\Z")
_ESCAPE = "%XX"


def quote(value: object) -> str:
    """A key or value as it may stand in the comment: percent-encoded, at most :data:`LIMIT` characters. Never raises.

    What is cut off begins neither in the middle of a ``%XX`` nor of a character of the value.

    :param value: anything; what is neither text nor bytes becomes ``str(value)``, never ``repr(value)``
    """
    if type(value) is str and len(value) <= LIMIT:
        return value if _PLAIN(value) else _percent_encoded(value)
    return _percent_encoded.__wrapped__(value)


# Routes, tasks and frameworks are always the same.
@lru_cache(maxsize=512)
def _percent_encoded(value: object) -> str:
    encoded = quote_from_bytes(_utf8(value), safe="/~")
    return encoded if len(encoded) <= LIMIT else _cut(encoded)


def _utf8(value: object) -> bytes:
    """The first characters of a value; one gives at least one encoded character, so no more than these can be needed."""
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = memoryview(value).tobytes()[:LIMIT].decode("utf-8", "replace")
        elif not isinstance(value, str):
            value = str(value)
        # str's own methods, whatever a subclass has made of them. A lone surrogate becomes "?".
        return str.encode(str.__getitem__(value, slice(LIMIT)), "utf-8", "replace")
    except Exception:
        # An object that cannot say what it is has nothing to say in a comment either.
        return b""


def _cut(encoded: str) -> str:
    encoded = _PARTIAL.sub("", encoded[:LIMIT])
    while True:
        try:
            unquote_to_bytes(encoded).decode()
        except UnicodeDecodeError:
            encoded = encoded[: -len(_ESCAPE)]
        else:
            return encoded


def comment(tags: Mapping[str, object], doubled: bool = False) -> str:
    """The comment, or "" when there is nothing to say.

    :param tags: keys and values; None leaves its key out
    :param doubled: whether to write ``%%`` for ``%``, for a driver that takes ``%`` for the begin of a parameter in this
        execution (paramstyles format and pyformat with parameters); the others would send the doubled one as it is
    """
    pairs = sorted((quote(key), quote(value)) for key, value in tags.items() if value is not None)
    text = ",".join(f"{key}='{value}'" for key, value in pairs)
    if doubled:
        text = text.replace("%", "%%")
    return f"/*{text}*/" if text else ""


# The pairs that differ from request to request and from statement to statement, in the order of a comment.
VARIABLE = ("request_id", "traceparent")


@lru_cache(maxsize=256)
def around(pairs: tuple[tuple[str, object], ...], doubled: bool) -> tuple[str, str, str]:
    """What :func:`comment` writes before, between and after the :data:`VARIABLE` pairs; it is the same for a whole route.

    :param pairs: keys and values of the other pairs
    """
    parts = ["", "", ""]
    for key, value in sorted((quote(key), quote(value)) for key, value in pairs if value is not None):
        if key not in VARIABLE:
            place = bisect(VARIABLE, key)
            parts[place] += f"{key}='{value}'," if place == 0 else f",{key}='{value}'"
    if doubled:
        parts = [part.replace("%", "%%") for part in parts]
    return parts[0], parts[1], parts[2]
