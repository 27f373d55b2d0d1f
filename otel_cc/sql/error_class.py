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
# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html. Most drivers of MySQL tell no SQLSTATE, and
# name whatever they do not know OperationalError; a deadlock has the SQLSTATE of a serialization failure.
_MYSQL_DRIVERS = frozenset({"pymysql", "MySQLdb", "asyncmy", "mysql"})
_MYSQL = {
    1213: DEADLOCK,
    1205: TIMEOUT,  # of a lock
    1969: TIMEOUT,  # of a statement, in MariaDB
    3024: TIMEOUT,
    3572: TIMEOUT,  # NOWAIT
    1317: CANCELLED,
    3819: INTEGRITY,  # CHECK
    4025: INTEGRITY,  # in MariaDB
    1040: CONNECTION,  # too many
    1044: CONNECTION,
    1045: CONNECTION,
    1053: CONNECTION,  # shutdown
    1203: CONNECTION,
    4031: CONNECTION,  # idle for too long
    1054: PROGRAMMING,
    1142: PROGRAMMING,
    1143: PROGRAMMING,
}
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
    names = [base.__name__ for base in type(error).__mro__]
    if type(error).__module__.partition(".")[0] in _MYSQL_DRIVERS and error.args and isinstance(error.args[0], int):
        code = error.args[0]
        if code in _MYSQL:
            return _MYSQL[code]
        if "OperationalError" in names:
            # 2000 to 2999 are errors of the client.
            return CONNECTION if 2000 <= code < 3000 else OTHER
    if state:
        return _STATES.get(state) or _STATE_CLASSES.get(state[:2], OTHER)
    if "Exception" not in names or "CancelledError" in names:
        return CANCELLED
    text = str(error)
    if type(error).__module__ == "sqlite3":
        sqlite_code = getattr(error, "sqlite_errorcode", None)
        if isinstance(sqlite_code, int):
            return _SQLITE.get(sqlite_code & 0xFF, OTHER)
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
