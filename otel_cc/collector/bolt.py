"""Whether a bbolt file, in which the collector keeps its queues, can be opened: a reader of its structure, not of its data.

The collector refuses a damaged file with "invalid database", or panics when a page is not what the tree says; its
setting `recreate` does not help with either, so it has to be known before.
The layout is that of go.etcd.io/bbolt 1.3 to 1.5, in the byte order of the machine that wrote it; ours are little-endian.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META, _FREELIST = 0x01, 0x02, 0x04, 0x10
_NO_FREELIST = 0xFFFF_FFFF_FFFF_FFFF
_BUCKET = 0x01

# id, flags, count of elements, number of further pages
_PAGE = struct.Struct("<QHHI")
# magic, version, page size, flags, root page, sequence, freelist page, first page beyond the end, transaction, checksum
_META_BODY = struct.Struct("<IIIIQQQQQQ")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET_HEADER = struct.Struct("<QQ")


class Damaged(Exception):
    """The file cannot be opened; the text says what is wrong with it."""


class _Meta(NamedTuple):
    page_size: int
    root: int
    freelist: int
    end: int
    transaction: int


def check(path: Path) -> None:
    """Read the structure of a file; an empty one is a new one.

    :raises Damaged: the collector could not open it
    :raises OSError: it cannot be read
    """
    with open(path, "rb") as file:
        size = path.stat().st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _Reader(data, _newest_meta(data)).walk()
            except (struct.error, IndexError) as error:
                raise Damaged("a page ends outside of the file") from error


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return value


def _newest_meta(data: mmap.mmap) -> _Meta:
    """The valid one of the two meta pages that was written last."""
    found = []
    # Where the second one is depends on the page size of the machine, as in bbolt itself.
    for position in (0, *(1024 << shift for shift in range(7))):
        if len(data) < position + _PAGE.size + _META_BODY.size:
            continue
        body = data[position + _PAGE.size : position + _PAGE.size + _META_BODY.size]
        magic, version, page_size, _flags, root, _sequence, freelist, end, transaction, checksum = _META_BODY.unpack(
            body
        )
        if magic == _MAGIC and version == _VERSION and checksum == _fnv1a(body[:56]) and position in (0, page_size):
            found.append(_Meta(page_size, root, freelist, end, transaction))
    if not found:
        raise Damaged("neither of its two first pages is one of a database")
    return max(found, key=lambda meta: meta.transaction)


class _Reader:
    def __init__(self, data: mmap.mmap, meta: _Meta) -> None:
        self._data = data
        self._meta = meta
        self._seen: set[int] = set()

    def walk(self) -> None:
        meta = self._meta
        if len(self._data) < meta.end * meta.page_size:
            missing = meta.end * meta.page_size - len(self._data)
            raise Damaged(f"its last {missing} bytes are missing")
        if meta.freelist != _NO_FREELIST:
            self._page(meta.freelist, _FREELIST)
        todo = [meta.root]
        while todo:
            todo += self._children(todo.pop())

    def _page(self, number: int, *flags: int) -> tuple[int, int, int, int]:
        """Where a page begins and ends, its flags and its count of elements; each page has one parent."""
        if not 2 <= number < self._meta.end:
            raise Damaged(f"page {number} is outside of the file")
        start = number * self._meta.page_size
        own, flag, count, more = _PAGE.unpack_from(self._data, start)
        if own != number or flag not in flags:
            raise Damaged(f"page {number} is not what its parent says")
        pages = range(number, number + more + 1)
        if pages[-1] >= self._meta.end:
            raise Damaged(f"page {number} ends outside of the file")
        if not self._seen.isdisjoint(pages):
            raise Damaged(f"page {number} is used twice")
        self._seen.update(pages)
        return start, start + len(pages) * self._meta.page_size, flag, count

    def _children(self, number: int) -> list[int]:
        start, end, flag, count = self._page(number, _BRANCH, _LEAF)
        if flag == _BRANCH:
            return self._branch(start, end, count)
        return self._leaf(start, end, count, number)

    def _branch(self, start: int, end: int, count: int) -> list[int]:
        children = []
        for index in range(count):
            element = start + _PAGE.size + index * _BRANCH_ELEMENT.size
            position, key_size, child = _BRANCH_ELEMENT.unpack_from(self._data, element)
            if element + position + key_size > end:
                raise Damaged(f"an element of page {start // self._meta.page_size} ends outside of it")
            children.append(child)
        if not children:
            raise Damaged(f"page {start // self._meta.page_size} has no children")
        return children

    def _leaf(self, start: int, end: int, count: int, number: int) -> list[int]:
        children = []
        for index in range(count):
            element = start + _PAGE.size + index * _LEAF_ELEMENT.size
            flags, position, key_size, value_size = _LEAF_ELEMENT.unpack_from(self._data, element)
            value = element + position + key_size
            if position < _LEAF_ELEMENT.size or value + value_size > end:
                raise Damaged(f"an element of page {number} ends outside of it")
            if flags & _BUCKET:
                root, _sequence = _BUCKET_HEADER.unpack_from(self._data, value)
                if root:
                    children.append(root)
                else:
                    # A small bucket is a page inside of the value.
                    inner = value + _BUCKET_HEADER.size
                    _own, flag, inside, _more = _PAGE.unpack_from(self._data, inner)
                    if flag != _LEAF:
                        raise Damaged(f"a bucket in page {number} is not what its parent says")
                    children += self._leaf(inner, value + value_size, inside, number)
        return children
