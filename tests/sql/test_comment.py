"""The escaper: whatever a value is, it neither breaks out of the comment nor raises, and it can be read back."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from google.cloud.sqlcommenter import generate_sql_comment
from hypothesis import example, given
from hypothesis import strategies as st

from otel_cc.sql import comment
from tests.sql.conftest import comments

ALPHABET = re.compile(r"(?:[A-Za-z0-9_.~/-]|%[0-9A-F]{2})*")
WHOLE = re.compile(rf"/\*{ALPHABET.pattern}='{ALPHABET.pattern}'(?:,{ALPHABET.pattern}='{ALPHABET.pattern}')*\*/")

anything_written = st.text(st.characters(), max_size=600)
hostile_bits = st.lists(
    st.sampled_from(
        ["*/", "/*", "'", "\\", "--", ";", "%", "%s", "%(a)s", "\0", "\r\n", "\ud800", "é", "漢", "🎉", "x" * 97]
    ),
    max_size=30,
).map("".join)
texts = anything_written | hostile_bits
values = texts | st.binary(max_size=600) | st.lists(texts, max_size=3) | st.integers() | st.floats() | st.none()


class Raises:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Breaks:
    def __str__(self) -> str:
        return "*/ DROP TABLE victim --"


class NotText:
    __str__ = int


class Lies:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no")


class Recursive:
    def __str__(self) -> str:
        return str(self)


class Wolf(str):
    """A str that says something else when it is asked."""

    def __getitem__(self, _: Any) -> str:
        return "*/"

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no")

    def __str__(self) -> str:
        return "*/"

    def __hash__(self) -> int:
        raise RuntimeError("no")

    __eq__ = object.__eq__


class WolfBytes(bytes):
    def __getitem__(self, _: Any) -> Any:
        raise RuntimeError("no")

    def decode(self, *_: Any) -> str:
        return "*/"


HOSTILE = {
    "an object that cannot be written": Raises(),
    "an object that breaks out": Breaks(),
    "an object whose text is none": NotText(),
    "an object without a class": Lies(),
    "an object without end": Recursive(),
    "a text that lies": Wolf("harmless"),
    "bytes that lie": WolfBytes(b"harmless"),
    "a view of bytes": memoryview(b"*/"),
    "a view of something else": memoryview(b"abcdefgh").cast("I", (1, 2)),
    "a list": ["*/; COMMIT; DROP TABLE victim; SELECT 1 -- "],
    "a dict": {"*/": "*/"},
}


def same(value: str) -> str:
    """What can be read back of a text: a lone surrogate cannot be encoded."""
    return value.encode("utf-8", "replace").decode()


@given(values)
def test_no_value_leaves_the_alphabet_or_the_limit(value: object) -> None:
    quoted = comment.quote(value)
    assert ALPHABET.fullmatch(quoted)
    assert len(quoted) <= comment.LIMIT


@pytest.mark.parametrize("name", HOSTILE)
def test_no_object_breaks_out_or_raises(name: str) -> None:
    value: Any = HOSTILE[name]
    assert ALPHABET.fullmatch(comment.quote(value))
    text = comment.comment({"request_id": value, "db_driver": "x"})
    assert WHOLE.fullmatch(text)
    assert list(comments(text)[0]) == ["db_driver", "request_id"]


@given(texts)
@example("x" * 10_000)
@example("漢" * 10_000)
@example("漢" * 28 + "x")
@example("x" * 255 + "é")
@example("\r\n\0")
@example("a\ud800b")
def test_a_text_is_read_back_as_it_was_up_to_the_limit(value: str) -> None:
    quoted = comment.quote(value)
    read = unquote(quoted, errors="strict")
    assert same(value).startswith(read)
    if read != same(value):
        # Nothing more would have fitted.
        following = same(value)[len(read)]
        assert len(quoted) + len(comment.quote(following)) > comment.LIMIT


@given(st.binary(max_size=600))
def test_bytes_are_read_back_as_text(value: bytes) -> None:
    assert value.decode("utf-8", "replace").startswith(unquote(comment.quote(value), errors="strict"))


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (UUID("0af76519-16cd-43dd-8448-eb211c80319c"), "0af76519-16cd-43dd-8448-eb211c80319c"),
        (42, "42"),
        (True, "True"),
        ("/items/{id}", "/items/%7Bid%7D"),
        ("fastapi:0.115", "fastapi%3A0.115"),
        ("*/", "%2A/"),
        ("'", "%27"),
        ("\\", "%5C"),
        ("a b", "a%20b"),
        ("", ""),
        ("\udcff", "%3F"),
        (b"\xff", "%EF%BF%BD"),
    ],
)
def test_a_value_is_percent_encoded_as_text_never_as_its_representation(value: object, quoted: str) -> None:
    assert comment.quote(value) == quoted


@given(st.dictionaries(texts, values, max_size=5))
def test_a_comment_ends_where_it_should_and_says_what_it_was_given(tags: dict[str, Any]) -> None:
    text = comment.comment(tags)
    kept = {key: value for key, value in tags.items() if value is not None}
    if not kept:
        assert text == ""
        return
    assert WHOLE.fullmatch(text)
    pairs = [pair.partition("=")[::2] for pair in text[2:-2].split(",")]
    assert pairs == sorted((comment.quote(key), f"'{comment.quote(value)}'") for key, value in kept.items())


@given(st.dictionaries(texts, values, max_size=5))
def test_the_same_tags_give_the_same_comment_again(tags: dict[str, Any]) -> None:
    assert comment.comment(tags) == comment.comment(dict(reversed(tags.items())))


def test_equal_values_of_different_types_are_not_taken_for_each_other() -> None:
    written = [comment.comment({"n": value}) for value in (1, True, 1.0)]
    assert written == ["/*n='1'*/", "/*n='True'*/", "/*n='1.0'*/"]


@given(st.dictionaries(texts, texts, max_size=5))
def test_a_doubled_comment_is_the_plain_one_after_the_driver(tags: dict[str, str]) -> None:
    assert comment.comment(tags, doubled=True) % () == comment.comment(tags)


def test_nothing_but_none_means_no_comment() -> None:
    assert comment.comment({"route": None}) == ""
    assert comment.comment({"route": None, "task": ""}) == "/*task=''*/"


# What requests, routes, tasks and frameworks look like. Google's package writes %% for % always, cuts nothing, appends
# the comment and takes a key as it is.
harmless = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


@given(st.dictionaries(names, harmless, min_size=1, max_size=5))
@example({"route": "/items/{id}", "framework": "fastapi:0.115", "request_id": "order-42", "db_driver": "psycopg2"})
def test_harmless_values_are_written_as_google_writes_them(tags: dict[str, str]) -> None:
    assert comment.comment(tags) == generate_sql_comment(**tags).strip().replace("%%", "%")
    assert comment.comment(tags, doubled=True) == generate_sql_comment(**tags).strip()
