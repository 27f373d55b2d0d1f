"""The rules of the request ID: which ones are accepted, how a new one is made, and which trace ID it stands for.

This is the one place where an untrusted header becomes an ID. What passes here is ASCII from a small alphabet, at most
128 characters long, and safe to write into a header, a log line, a URL or a query; the SQL comment encodes it once more.

A trace ID is taken from the request ID, bit for bit, only when the ID is unique by construction: a UUID of version 4 or
7, or 32 random hex digits. Anything else (``order-42``) stays a request ID and gets a new random trace ID, so that two
requests that happen to share a name are never merged into one trace.
"""

from __future__ import annotations

import re
from random import getrandbits

MAX_LENGTH = 128

_ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/+=@-]{0,127}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[47][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")
_HEX32 = re.compile(r"[0-9a-fA-F]{32}")

# Fewer distinct digits than this in 32 hex digits is a counter or a constant, not a random number: a random one falls
# below it once in 25 million, and then only gets another trace ID.
_MIN_DISTINCT_DIGITS = 8

_VERSION_AND_VARIANT = ~((0xF << 76) | (0x3 << 62))
_VERSION_4 = (0x4 << 76) | (0x2 << 62)


def accept(value: object) -> str | None:
    """The request ID in an untrusted value, or None when it is not acceptable.

    :param value: a header value as bytes or str; any other type is refused
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("ascii")
        except UnicodeDecodeError:
            return None
    if not isinstance(value, str):
        return None
    value = value.strip(" \t")
    return value if _ACCEPTED.fullmatch(value) else None


def trace_id_of(request_id: str) -> int | None:
    """The trace ID (128 bits) that a request ID *is*, or None when a new one has to be made.

    :param request_id: an accepted request ID
    """
    length = len(request_id)
    if length == 36:
        return int(request_id.replace("-", ""), 16) if _UUID.fullmatch(request_id) else None
    if length == 32 and _HEX32.fullmatch(request_id) and len(set(request_id.lower())) >= _MIN_DISTINCT_DIGITS:
        return int(request_id, 16)
    return None


def new_trace_id() -> int:
    """A new random trace ID that is a valid UUIDv4 too; its low 56 bits are random, as W3C trace context level 2 asks."""
    return getrandbits(128) & _VERSION_AND_VARIANT | _VERSION_4


def from_trace_id(trace_id: int) -> str:
    """The request ID of a request that brought none: its trace ID, as 32 lower-case hex digits."""
    return f"{trace_id:032x}"
