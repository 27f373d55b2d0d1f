"""What a text says about its statement."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cc.sql.statement import _STATEMENTS_LIMIT, TEXT_LIMIT, Statement, Statements

BASE = {"db.system.name": "postgresql"}


def statement(text: str) -> Statement:
    return Statements(BASE, "shop").of(text)


@pytest.mark.parametrize(
    ("text", "operation", "commentable"),
    [
        ("SELECT 1", "SELECT", True),
        ("select 1", "SELECT", True),
        ("\n\t SELECT 1", "SELECT", True),
        ("((SELECT 1) UNION (SELECT 2))", "SELECT", True),
        ("/* a */ -- b\n /* c */ SELECT 1", "SELECT", True),
        ("/***/SELECT 1", "SELECT", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH", True),
        ("INSERT INTO t VALUES (1)", "INSERT", True),
        ("UPDATE t SET a = 1", "UPDATE", True),
        ("DELETE FROM t", "DELETE", True),
        ("MERGE INTO t USING s ON true", "MERGE", True),
        ("VALUES (1)", "VALUES", True),
        ("TABLE t", "TABLE", True),
        ("SELECT /*+ SeqScan(t) */ 1", "SELECT", False),
        ("/*+ SeqScan(t) */ SELECT 1", "SELECT", False),
        ("BEGIN", "BEGIN", False),
        ("COPY t FROM STDIN", "COPY", False),
        ("CALL p(1)", "CALL", False),
        ("EXPLAIN SELECT 1", "EXPLAIN", False),
        ("PREPARE p AS SELECT 1", "PREPARE", False),
        ("SELECTED", "OTHER", False),
        ("frobnicate the database", "OTHER", False),
        ("/* never closed SELECT 1", "OTHER", False),
        ("-- only a comment", "OTHER", False),
        ("", "OTHER", False),
        ("\0", "OTHER", False),
    ],
)
def test_the_first_word_is_the_operation_and_decides_about_the_comment(
    text: str, operation: str, commentable: bool
) -> None:
    found = statement(text)
    assert (found.operation, found.commentable, found.name) == (operation, commentable, f"{operation} shop")
    expected = {**BASE, "db.operation.name": operation, **({"db.query.text": text} if text else {})}
    assert found.attributes == expected


@given(st.text() | st.lists(st.sampled_from(["/*", "*/", "*", "(", "--", "\n", " ", "SELECT", "'"])).map("".join))
def test_any_text_is_a_statement(text: str) -> None:
    assert statement(text).name.endswith(" shop")


@pytest.mark.parametrize("text", ["/**/" * 5000 + "9", "/* " * 5000, "/*" + "*" * 20_000, "(" * 20_000, "--" * 20_000])
def test_no_text_takes_long_to_look_at(text: str) -> None:
    begin = time.thread_time()
    assert statement(text).operation == "OTHER"
    assert time.thread_time() - begin < 0.5


def test_a_text_is_looked_at_once() -> None:
    statements = Statements(BASE, "shop")
    assert statements.of("SELECT 1") is statements.of("SELECT 1")
    long = "SELECT '" + "x" * TEXT_LIMIT + "'"
    assert statements.of(long) is statements.of("".join(long))
    assert statements.of(long) is not statements.of(long + " ")
    # The table knows a long text without keeping it.
    assert [len(key) for key in statements._known if isinstance(key, str)] == [len("SELECT 1")]


def test_a_long_text_is_cut_in_the_attributes() -> None:
    exact = "SELECT '" + "x" * (TEXT_LIMIT - 9) + "'"
    assert statement(exact).attributes["db.query.text"] == exact
    assert statement(exact + ";").attributes["db.query.text"] == exact[:-1] + "…"


def test_texts_that_are_generated_anew_each_time_do_not_fill_the_memory() -> None:
    statements = Statements(BASE, "shop")
    for number in range(3 * _STATEMENTS_LIMIT):
        assert statements.of(f"SELECT {number}").operation == "SELECT"
        assert len(statements._known) <= _STATEMENTS_LIMIT


def test_the_prefix_of_a_batch_is_a_part_of_its_operation() -> None:
    found = Statements(BASE, "shop", "BATCH ").of("INSERT INTO t VALUES (1)")
    assert (found.operation, found.name) == ("BATCH INSERT", "BATCH INSERT shop")
    assert found.attributes["db.operation.name"] == "BATCH INSERT"
