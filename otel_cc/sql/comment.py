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


def comment(tags: Mapping[str, object], link: tuple[int, int, int] | None = None, doubled: bool = False) -> str:
    """The comment, or "" when there is nothing to say.

    :param tags: keys and values; None leaves its key out
    :param link: the span to name in ``traceparent``: trace ID (128 bits), span ID (64 bits) and flags (8 bits). They are
        numbers, so that nothing else can be in them
    :param doubled: whether to write ``%%`` for ``%``, for a driver that takes ``%`` for the begin of a parameter in this
        execution (paramstyles format and pyformat with parameters); the others would send the doubled one as it is
    """
    pairs = tuple(tags.items())
    trace_id, span_id, flags = link or (0, 0, 0)
    for _, value in pairs:
        # Equal keys of the cache must mean equal texts, and only short ones are worth keeping.
        if type(value) is not str or len(value) > LIMIT:
            before, after, without = _around.__wrapped__(pairs, trace_id, flags, doubled)
            break
    else:
        before, after, without = _around(pairs, trace_id, flags, doubled)
    return f"{before}{span_id:016x}{after}" if link else without


_TRACEPARENT = "traceparent"


@lru_cache(maxsize=256)
def _around(pairs: tuple[tuple[str, object], ...], trace_id: int, flags: int, doubled: bool) -> tuple[str, str, str]:
    """What stands before and after the span ID, and the whole comment without a link.

    Within a request only the span ID is new with each statement, so the rest of the text is made once.
    """
    quoted = sorted((quote(key), quote(value)) for key, value in pairs if value is not None)
    place = bisect([key for key, _ in quoted], _TRACEPARENT)
    texts = [f"{key}='{value}'" for key, value in quoted]
    if doubled:
        texts = [text.replace("%", "%%") for text in texts]
    first = "".join(f"{text}," for text in texts[:place])
    last = "".join(f",{text}" for text in texts[place:])
    without = f"/*{','.join(texts)}*/" if texts else ""
    return f"/*{first}{_TRACEPARENT}='00-{trace_id:032x}-", f"-{flags:02x}'{last}*/", without
