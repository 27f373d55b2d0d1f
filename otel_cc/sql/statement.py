"""What is known of a statement by its text: its operation, and whether a comment may stand in front of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from otel_cc.sql.budget import Usual

# The first word, after any whitespace, parentheses and comments.
_FIRST_WORD = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*(?:\n|\Z))*([A-Za-z]+)", re.DOTALL)

# Everything else is a utility statement. Before PostgreSQL 16 each text of one is an entry of its own in
# pg_stat_statements, so a comment with an ID would fill it up.
_COMMENTABLE = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "VALUES", "REPLACE", "TABLE"})

_KNOWN_WORDS = _COMMENTABLE | {
    "ALTER", "ANALYZE", "ATTACH", "BEGIN", "CALL", "CLOSE", "CLUSTER", "COMMENT", "COMMIT", "COPY", "CREATE", "DEALLOCATE",
    "DECLARE", "DETACH", "DISCARD", "DO", "DROP", "EXEC", "EXECUTE", "EXPLAIN", "FETCH", "GRANT", "LISTEN", "LOCK", "MOVE",
    "NOTIFY", "PRAGMA", "PREPARE", "REFRESH", "REINDEX", "RELEASE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SET", "SHOW",
    "TRUNCATE", "UNLISTEN", "VACUUM",
}  # fmt: skip

_LIMIT = 2048


class Statement:
    """One text.

    :ivar operation: its first word, "SELECT"; "OTHER" for what SQL does not know
    :ivar commentable: whether a comment may be put in front
    :ivar usual: how long it usually takes
    :ivar attributes: those of its span
    """

    __slots__ = ("attributes", "commentable", "name", "operation", "usual")

    def __init__(self, text: str, base: dict[str, Any], name: Callable[[str], str]) -> None:
        found = _FIRST_WORD.match(text)
        word = found.group(1).upper() if found else ""
        self.operation = word if word in _KNOWN_WORDS else "OTHER"
        # pg_hint_plan reads only the first block comment, so nothing may come before a hint.
        self.commentable = word in _COMMENTABLE and "/*+" not in text
        self.usual = Usual()
        self.name = name(self.operation)
        self.attributes = {**base, "db.query.text": text, "db.operation.name": self.operation}


class Statements:
    """The statements of one engine; a bounded table, for texts that are generated anew each time.

    :param base: attributes of every span of the engine
    :param name: from the operation to the span name
    """

    def __init__(self, base: dict[str, Any], name: Callable[[str], str]) -> None:
        self._base = base
        self._name = name
        self._known: dict[str, Statement] = {}

    def of(self, text: str) -> Statement:
        """The statement with this text."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _LIMIT:
                self._known.clear()
            known = self._known[text] = Statement(text, self._base, self._name)
        return known
