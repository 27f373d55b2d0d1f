"""Comments of statements are found, decoded and taken out, in no time whatever the statement holds."""

from __future__ import annotations

import time

import pytest

from otel_cc.local import sql_comment


def test_the_last_comment_of_a_statement_is_decoded() -> None:
    text = "SELECT 1 /* hint */ /*request_id='order-42',route='%2Fa%20b',note='it\\'s'*/"
    assert sql_comment.pairs(text) == {"request_id": "order-42", "route": "/a b", "note": "it\\'s"}
    assert sql_comment.pairs("SELECT 1") == {}
    assert sql_comment.pairs("SELECT 1 /* just words */") == {}


def test_a_statement_is_parted_from_its_comments() -> None:
    assert sql_comment.split("/*a='1'*/ SELECT/* x */1 /* y */") == (
        "  SELECT 1  ",
        ["/*a='1'*/", "/* x */", "/* y */"],
    )
    assert sql_comment.split("SELECT 1 /* without end") == ("SELECT 1 /* without end", [])


@pytest.mark.parametrize(
    "text",
    [
        "/*" * 500_000,
        "/*a" * 300_000,
        f"/*{'a' * 1_000_000}*/",
        "/*" + "a='" * 300_000 + "*/",
        "/*" + "a='\\" * 250_000 + "*/",
    ],
    ids=["opens", "words", "one word", "quotes", "backslashes"],
)
def test_a_statement_of_a_stranger_takes_no_time(text: str) -> None:
    start = time.thread_time()
    sql_comment.split(text)
    sql_comment.pairs(text)
    assert time.thread_time() - start < 5
