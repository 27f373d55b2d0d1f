"""The comments of a statement, as a database logged it or a span holds it; the statement may be that of a stranger."""

from __future__ import annotations

import re
from urllib.parse import unquote

# A key begins where no character of a key stands before: a long word is looked at once, not once for each character.
_PAIR = re.compile(r"(?<![\w%.-])([\w%.-]+)='((?:[^'\\]|\\.)*)'")


def split(sql: str) -> tuple[str, list[str]]:
    """A statement without its comments, and the comments with their marks.

    By hand: a regular expression takes minutes for a text in which many comments begin and none ends.
    """
    plain, comments = [], []
    done = 0
    while (start := sql.find("/*", done)) >= 0 and (end := sql.find("*/", start + 2)) >= 0:
        plain.append(sql[done:start])
        done = end + 2
        comments.append(sql[start:done])
    return " ".join([*plain, sql[done:]]), comments


def pairs(sql: str) -> dict[str, str]:
    """The key-value pairs of the last comment of a statement, decoded; empty when it has none."""
    _, comments = split(sql)
    found = _PAIR.findall(comments[-1]) if comments else []
    return {unquote(key): unquote(value) for key, value in found}
