"""Attributes as OTLP bytes, and the few pieces of protobuf's wire format that a span needs.

An attribute's bytes are kept for the next span that has the same one: most attributes of a span are the same in the next
request. What cannot be encoded is left out, as the official encoder does, and reported once; a lone surrogate costs one
character ("?") instead of the attribute, or of the whole batch where it stands in a name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from random import getrandbits
from typing import Any

from otel_cc import guard

LEFT_OUT = "the attribute %r cannot be sent as OTLP and is left out (logged once): give it a simple value."

# An attribute is written as field 9 of a span; elsewhere its first byte, the tag, is replaced.
_TAG = b"J"

# Keys, names and values that may be all different must not grow the tables: no more entries, and none longer, than this.
CACHE_LIMIT = 2048
LONGEST_CACHED = 2048
CACHED_BYTES = 1 << 20

# Messages that an attribute's value may nest: decoders, protobuf's own among them, refuse a request with more than 100.
_DEEPEST = 93

# What stands before the bytes of a string of such a length: the length of its AnyValue, the tag, its own length.
_SHORT = tuple(bytes((length + 2, 0x0A, length)) for length in range(126))

_fixed = struct.Struct("<BQ").pack
_double = struct.Struct("<d").pack
_Item = tuple[str, type, Any]


class _Varints(dict[int, bytes]):
    """The variable-length form of a length or a count; the usual ones are computed once."""

    def __missing__(self, number: int) -> bytes:
        if 4096 <= number < 0x4000:
            return bytes((number & 127 | 128, number >> 7))
        if 0x4000 <= number < 0x200000:
            return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
        out = []
        rest = number
        while rest > 127:
            out.append(rest & 127 | 128)
            rest >>= 7
        out.append(rest)
        found = bytes(out)
        if number < 4096:
            self[number] = found
        return found


varint = _Varints()


def utf8(text: str) -> bytes:
    """A string's bytes; "?" for each lone surrogate, which UTF-8 has no place for."""
    try:
        return str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-8", "replace")
    except TypeError:
        return str(text).encode("utf-8", "replace")


def string(tag: bytes, text: str | None) -> bytes:
    """A string field, which protobuf leaves out when it is empty."""
    if not text:
        return b""
    data = utf8(text)
    return b"%b%b%b" % (tag, varint[len(data)], data)


def message(tag: bytes, body: bytes) -> bytes:
    """A field that holds a message."""
    return b"%b%b%b" % (tag, varint[len(body)], body)


def fixed(tag: int, number: int | None) -> bytes:
    """A fixed64 field, which protobuf leaves out when it is zero: times, and counts."""
    return _fixed(tag, number) if number else b""


class Texts(dict[str, bytes]):
    """String fields whose values come again and again: names of spans, keys of attributes.

    :param tag: the field's tag
    :param tail: what follows it
    """

    def __init__(self, tag: bytes, tail: bytes = b"") -> None:
        super().__init__()
        self._tag = tag
        self._tail = tail

    def __missing__(self, text: str) -> bytes:
        found = string(self._tag, text) + self._tail
        if len(found) <= LONGEST_CACHED and type(text) is str:
            if len(self) >= CACHE_LIMIT:
                self.clear()
            self[text] = found
        return found


_keys = Texts(b"\n", b"\x12")

# The type is part of the key: 1, 1.0 and True are equal, but not their bytes. For the same reason no float is kept (0.0
# equals -0.0), nor a sequence.
_CACHED_TYPES = frozenset({str, int, bool})


class _Attributes(dict[_Item, bytes]):
    """Encoded attributes by key, type and value, in two generations.

    When the younger one is full it becomes the older one, and what is used again moves back. Of what is new a quarter is
    kept, by chance: values that come often are kept soon, and values that are all different mostly pass by.
    """

    def __init__(self) -> None:
        super().__init__()
        self.older: dict[_Item, bytes] = {}
        self._bytes = 0

    def __missing__(self, item: _Item) -> bytes:
        found = self.older.get(item)
        if found is None:
            key, kind, value = item
            found = _encode(key, kind, value)
            if getrandbits(2) or kind not in _CACHED_TYPES or len(found) > LONGEST_CACHED:
                return found
        if len(self) >= CACHE_LIMIT or self._bytes > CACHED_BYTES:
            self.older = dict(self)
            self.clear()
            self._bytes = 0
        self[item] = found
        self._bytes += len(found)
        return found


cache = _Attributes()
_lookup = cache.__getitem__


def attributes(mapping: Mapping[str, Any]) -> bytes:
    """The attributes of a span, each with its tag.

    :param mapping: best a plain dict: iterating over the SDK's bounded mapping costs a lock and a copy
    """
    try:
        values = mapping.values()
        return b"".join(map(_lookup, zip(mapping, map(type, values), values, strict=False)))
    except Exception:
        return b"".join(_one_by_one(mapping))


def attributes_of_others(tag: bytes, mapping: Mapping[str, Any] | None) -> bytes:
    """The attributes of an event, link, resource or scope.

    :param tag: the tag of the field there
    """
    if not mapping:
        return b""
    return b"".join([tag + one[1:] for one in _one_by_one(mapping) if one])


def _one_by_one(mapping: Mapping[str, Any]) -> Iterable[bytes]:
    """The same where a value cannot be looked up, such as a list or a mapping."""
    for key, value in list(mapping.items()):
        try:
            yield _lookup((key, type(value), value))
        except Exception:
            yield _encode(key, type(value), value)


def _encode(key: str, kind: type, value: Any) -> bytes:
    """One attribute with its tag; empty if it cannot be encoded."""
    try:
        if not isinstance(key, str):
            return _official(key, value)
        if kind is str:
            data = utf8(value)
            length = len(data)
            if length < 126:
                head = _keys[key]
                return b"".join((_TAG, varint[len(head) + 3 + length], head, _SHORT[length], data))
            inner = message(b"\n", data)
        elif kind is int:
            inner = b"\x18" + varint[value] if 0 <= value < 0x200000 else _integer(value)
        elif kind is bool:
            inner = b"\x10\x01" if value else b"\x10\x00"
        else:
            inner = _any(value, _DEEPEST)
        head = _keys[key]
        size = varint[len(inner)]
        return b"".join((_TAG, varint[len(head) + len(size) + len(inner)], head, size, inner))
    except RecursionError:
        guard.warn_once("attribute", LEFT_OUT, key)
        return b""
    except Exception:
        return _official(key, value)


def _integer(value: int) -> bytes:
    if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError(value)
    return b"\x18" + varint[value & 0xFFFFFFFFFFFFFFFF]


def _any(value: Any, depth: int) -> bytes:
    """The body of an ``AnyValue``, by the same questions in the same order as the official encoder asks.

    :param depth: how many messages may still be nested
    """
    if depth < 0:
        raise RecursionError
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, str):
        return message(b"\n", utf8(value))
    if isinstance(value, int):
        return _integer(int.__index__(value))
    if isinstance(value, float):
        return b"!" + _double(value)
    if isinstance(value, bytes):
        return message(b":", value)
    if isinstance(value, Sequence):
        return message(b"*", b"".join([message(b"\n", _any(one, depth - 2)) for one in value]))
    if isinstance(value, Mapping):
        pairs = [string(b"\n", str(key)) + message(b"\x12", _any(one, depth - 3)) for key, one in value.items()]
        return message(b"2", b"".join([message(b"\n", pair) for pair in pairs]))
    raise TypeError(type(value))


def _official(key: Any, value: Any) -> bytes:
    """What the official encoder makes of it: a newer one may know types that this one does not."""
    try:
        from opentelemetry.exporter.otlp.proto.common._internal import _encode_key_value

        return message(_TAG, _encode_key_value(key, value).SerializePartialToString())
    except Exception:
        guard.warn_once("attribute", LEFT_OUT, key)
        return b""
