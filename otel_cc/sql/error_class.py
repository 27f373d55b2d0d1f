"""What went wrong with an operation, in one of eight words: by the SQLSTATE where there is one, else by the exception.

Drivers name one error differently, and some name several alike; an alert needs "deadlock", whatever the driver.
"""

from __future__ import annotations

DEADLOCK = "deadlock"
SERIALIZATION = "serialization"
TIMEOUT = "timeout"
CANCELLED = "cancelled"
INTEGRITY = "integrity"
CONNECTION = "connection"
PROGRAMMING = "programming"
OTHER = "other"
CLASSES = (DEADLOCK, SERIALIZATION, TIMEOUT, CANCELLED, INTEGRITY, CONNECTION, PROGRAMMING, OTHER)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_STATES = {
    "40P01": DEADLOCK,
    "40001": SERIALIZATION,
    "40002": INTEGRITY,
    # Of the transaction, of a statement, of a lock; the second also when somebody cancelled it.
    "25P04": TIMEOUT,
    "57014": TIMEOUT,
    "55P03": TIMEOUT,
    # The server ended the session, or takes no more.
    "25P03": CONNECTION,
    "53300": CONNECTION,
    "57P01": CONNECTION,
    "57P02": CONNECTION,
    "57P03": CONNECTION,
    "57P04": CONNECTION,
    "57P05": CONNECTION,
    "0A000": PROGRAMMING,
}
_STATE_CLASSES = {
    "08": CONNECTION,
    "23": INTEGRITY,
    "28": CONNECTION,
    # The statement is wrong, or does not fit its values or the state of the transaction.
    "21": PROGRAMMING,
    "22": PROGRAMMING,
    "25": PROGRAMMING,
    "26": PROGRAMMING,
    "34": PROGRAMMING,
    "3D": PROGRAMMING,
    "3F": PROGRAMMING,
    "42": PROGRAMMING,
    "44": INTEGRITY,
}
# https://www.sqlite.org/rescode.html, the primary codes.
_SQLITE = {
    1: PROGRAMMING,  # SQLITE_ERROR: syntax, no such table
    5: TIMEOUT,  # SQLITE_BUSY: another connection has the lock
    6: TIMEOUT,  # SQLITE_LOCKED
    8: PROGRAMMING,  # SQLITE_READONLY
    9: CANCELLED,  # SQLITE_INTERRUPT
    14: CONNECTION,  # SQLITE_CANTOPEN
    19: INTEGRITY,  # SQLITE_CONSTRAINT
    20: PROGRAMMING,  # SQLITE_MISMATCH
    25: PROGRAMMING,  # SQLITE_RANGE
    26: CONNECTION,  # SQLITE_NOTADB
}
# Before Python 3.11 sqlite3 does not tell its code, and what it refuses by itself has none.
_SQLITE_TEXTS = (
    ("unable to open", CONNECTION),
    ("not a database", CONNECTION),
    ("closed database", CONNECTION),
    ("locked", TIMEOUT),
    ("interrupted", CANCELLED),
    ("no such", PROGRAMMING),
    ("syntax error", PROGRAMMING),
)
# The exceptions of PEP 249, and Python's own, by name; the first in the order of resolution counts.
_EXCEPTIONS = {
    "IntegrityError": INTEGRITY,
    "DataError": PROGRAMMING,
    "ProgrammingError": PROGRAMMING,
    "NotSupportedError": PROGRAMMING,
    # Without a state no server has answered, so the connection failed.
    "OperationalError": CONNECTION,
    "TimeoutError": TIMEOUT,
    "OSError": CONNECTION,
    "EOFError": CONNECTION,
    "ValueError": PROGRAMMING,
    "TypeError": PROGRAMMING,
}


def error_class(error: BaseException, state: str | None) -> str:
    """What went wrong, one of :data:`CLASSES`.

    :param error: the driver's exception
    :param state: its SQLSTATE, if it has one
    """
    if state:
        return _STATES.get(state) or _STATE_CLASSES.get(state[:2], OTHER)
    names = [base.__name__ for base in type(error).__mro__]
    if "Exception" not in names or "CancelledError" in names:
        return CANCELLED
    text = str(error)
    if type(error).__module__ == "sqlite3":
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int):
            return _SQLITE.get(code & 0xFF, OTHER)
        for words, found in _SQLITE_TEXTS:
            if words in text:
                return found
        if names[0] == "OperationalError":
            return OTHER
    for name in names:
        if name == "InterfaceError":
            # What the driver itself refuses: the connection is closed, or it was called wrongly.
            return CONNECTION if "closed" in text else PROGRAMMING
        if name in _EXCEPTIONS:
            return _EXCEPTIONS[name]
    # psycopg2 has no better class for it.
    return CONNECTION if "server closed the connection" in text else OTHER
