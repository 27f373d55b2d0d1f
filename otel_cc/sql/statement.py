"""What is known of a statement by its text: its operation, and whether a comment may stand in front of it."""

from __future__ import annotations

import re
from typing import Any

from otel_cc.sql.budget import Usual

# The first word, after any whitespace, parentheses and comments. No alternative can match one text in two ways: a
# pattern that could would take years for a text that begins with fifty comments.
_FIRST_WORD = re.compile(r"(?:\s|\(|/\*(?:[^*]|\*(?!/))*\*/|--[^\n]*(?:\n|\Z))*([A-Za-z]+)")

# Everything else is a utility statement. Before PostgreSQL 16 each text of one is an entry of its own in
# pg_stat_statements, so a comment with an ID would fill it up.
_COMMENTABLE = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "MERGE", "VALUES", "REPLACE", "TABLE"})

_KNOWN_WORDS = _COMMENTABLE | {
    "ALTER", "ANALYZE", "ATTACH", "BEGIN", "CALL", "CLOSE", "CLUSTER", "COMMENT", "COMMIT", "COPY", "CREATE", "DEALLOCATE",
    "DECLARE", "DETACH", "DISCARD", "DO", "DROP", "EXEC", "EXECUTE", "EXPLAIN", "FETCH", "GRANT", "LISTEN", "LOCK", "MOVE",
    "NOTIFY", "PRAGMA", "PREPARE", "REFRESH", "REINDEX", "RELEASE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SET", "SHOW",
    "TRUNCATE", "UNLISTEN", "VACUUM",
}  # fmt: skip

# SELECT INTO makes a table, which is a utility statement in spite of its first word. A column or string of that name
# costs only the comment.
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)

# A bulk insert of SQLAlchemy has a text of hundreds of kilobytes, which would fill the table and the queue of spans.
TEXT_LIMIT = 8192
_STATEMENTS_LIMIT = 2048


class Statement:
    """One text.

    :ivar operation: its first word, "SELECT"; "OTHER" for what SQL does not know
    :ivar commentable: whether a comment may be put in front
    :ivar usual: how long it usually takes
    :ivar attributes: those of its span
    :ivar name: of its span
    """

    __slots__ = ("attributes", "commentable", "name", "operation", "usual")

    def __init__(self, text: str, base: dict[str, Any], target: str, prefix: str) -> None:
        found = _FIRST_WORD.match(text)
        word = found.group(1).upper() if found else ""
        self.operation = prefix + (word if word in _KNOWN_WORDS else "OTHER")
        # pg_hint_plan reads only the first block comment, so nothing may come before a hint.
        self.commentable = word in _COMMENTABLE and "/*+" not in text and not (word == "SELECT" and _INTO.search(text))
        self.usual = Usual()
        self.name = f"{self.operation} {target}"
        self.attributes = {**base, "db.operation.name": self.operation}
        if text:
            self.attributes["db.query.text"] = text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"


class Statements:
    """The statements of one engine; a bounded table, for texts that are generated anew each time.

    :param base: attributes of every span of the engine
    :param target: what the statements run on, for the span names
    :param prefix: of the operations: "BATCH " for those that are executed with many sets of parameters at once
    """

    def __init__(self, base: dict[str, Any], target: str, prefix: str = "") -> None:
        self._base = base
        self._target = target
        self._prefix = prefix
        self._known: dict[str | int, Statement] = {}

    def of(self, text: str) -> Statement:
        """The statement with this text; a driver's own object instead of a text is taken for an unknown one."""
        if not isinstance(text, str):
            text = ""
        key = text if len(text) <= TEXT_LIMIT else hash(text)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _STATEMENTS_LIMIT:
                self._known.clear()
            known = self._known[key] = Statement(text, self._base, self._target, self._prefix)
        return known
