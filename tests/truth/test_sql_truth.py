"""What the exported metrics say of the databases is what the statements' callers wrote down and the server counted."""

from __future__ import annotations

from collections import Counter, defaultdict

from otel_cc.local.postgres import Statement
from tests.truth.exported import Labels, difference
from tests.truth.mix import KINDS
from tests.truth.stage import ENGINES, Run, operation

DURATION = "db.client.operation.duration"
LABELS = ("db.namespace", "db.operation.name", "error.type")
POOL = "db.client.connection"
# What is wrong when the driver says so.
CLASSES = {
    "UniqueViolation": "integrity",
    "ForeignKeyViolation": "integrity",
    "QueryCanceled": "timeout",
    "DivisionByZero": "programming",
    "AdminShutdown": "connection",
    "ConnectionDoesNotExist": "connection",
    "DeadlockDetected": "deadlock",
    "Operational": "connection",
}
# The engines of the servers are named by the application, the tasks' one by what it connects to.
NAMED = ("sync", "async", "tight")


def written(run: Run) -> Counter[Labels]:
    """Operations by engine, name and error."""
    truth: Counter[Labels] = Counter()
    for key, number in run.events.items():
        if key[0] == "sql":
            truth[key[1:]] += number
    return truth


def pool(name: str) -> str:
    """The engine behind the name of a pool."""
    return "tasks" if name.endswith("/tasks") else name


def pools(run: Run, name: str) -> dict[Labels, float]:
    found = run.exported.totals(f"{POOL}.{name}", f"{POOL}.pool.name")
    return {(pool(key[0]),): value for key, value in found.items()}


def logged(statements: list[Statement]) -> Counter[Labels]:
    """The application's statements in the server's log, by session name and operation.

    What drivers and SQLAlchemy ask a new server for themselves is left out, and so is the end of its transaction.
    """
    found: Counter[Labels] = Counter()
    ours: dict[int, bool] = defaultdict(bool)
    for statement in statements:
        word = operation(statement.sql)
        if "truth" in statement.sql or (word == "SET" and "statement_timeout" in statement.sql):
            ours[statement.pid] = True
        elif word not in ("COMMIT", "ROLLBACK") or not ours.pop(statement.pid, False):
            continue
        found[statement.application, word] += 1
    return Counter({key: number for key, number in found.items() if key[0] in ENGINES})


def test_operations_by_database_name_and_error(own: Run) -> None:
    truth = written(own)
    nowhere = truth.pop(("nowhere", "connect", "psycopg.OperationalError"))
    assert nowhere == KINDS["nowhere"].count
    truth["nowhere", "CONNECT", "psycopg.OperationalError"] = nowhere
    for engine, number in own.sessions.items():
        truth[engine, "CONNECT", ""] = number
    assert difference(own.exported.totals(DURATION, *LABELS), truth) == {}


def test_operations_are_what_the_server_logged(own: Run) -> None:
    exported: Counter[Labels] = Counter()
    for (engine, name), number in own.exported.totals(DURATION, *LABELS[:2]).items():
        word = name.removeprefix("BATCH ")
        if name != word:
            # The driver sends one statement for each set of parameters.
            number *= own.events["batch", engine, word] / own.events["sql", engine, name, ""]
        if name != "CONNECT":
            exported[engine, word] += int(number)
    truth = logged(own.statements)
    bounds: dict[Labels, tuple[float, float]] = {}
    for (engine, word, error), number in written(own).items():
        if "QueryCanceled" in error:
            # On a busy server the time may be over before the statement is executed and logged.
            bounds[engine, word] = (truth[engine, word], truth[engine, word] + number)
    assert difference(exported, truth, bounds) == {}


def test_failed_operations_by_class(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (engine, name, error), number in written(run).items():
        if error:
            kind = CLASSES[error.rpartition(".")[2].removesuffix("Error")]
            truth[engine, "CONNECT" if name == "connect" else name, error, kind] += number
    assert difference(run.exported.totals("db.client.errors", *LABELS, "db.error.class"), truth) == {}


def test_rows(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for key, number in run.events.items():
        if key[0] == "rows":
            truth[key[1:]] += number
    exported = run.exported.totals("db.client.rows", *LABELS[:2])
    assert difference(exported, truth) == {}
    counted: Counter[Labels] = Counter()
    for (engine, name), number in exported.items():
        counted[engine, name.removeprefix("BATCH ")] += int(number)
    # asyncpg does not say how many rows a batch changed.
    counted["async", "INSERT"] += run.events["batch", "async", "INSERT"]
    assert difference(counted, run.rows) == {}


def test_connections_by_pool(run: Run) -> None:
    checkouts = {key[1:]: number for key, number in run.events.items() if key[0] == "checkout"}
    timeouts = {key[1:]: number for key, number in run.events.items() if key[0] == "timeout"}
    opened = {(engine,): number for engine, number in run.sessions.items()}
    assert difference(pools(run, "use_time"), checkouts) == {}
    assert difference(pools(run, "timeouts"), timeouts) == {}
    assert difference(pools(run, "create_time"), opened) == {}
    # Those that waited in vain have waited, too.
    waited = Counter(checkouts) + Counter(timeouts) + Counter({("nowhere",): KINDS["nowhere"].count})
    assert difference(pools(run, "wait_time"), waited) == {}


def test_no_connection_is_used_when_nothing_happens(run: Run) -> None:
    exported = run.idle.totals(f"{POOL}.count", f"{POOL}.pool.name", f"{POOL}.state")
    assert {key for key in exported if key[1] == "used"} == set()
    # Those of the tasks are in processes that were killed, too.
    idle = {pool: value for (pool, _), value in exported.items() if pool in NAMED}
    assert idle == {engine: number for engine, number in run.connected.items() if engine in NAMED}
    assert run.idle.totals(f"{POOL}.pending_requests", f"{POOL}.pool.name") == {}


def test_pools_are_empty_when_their_engines_were_disposed_of(run: Run) -> None:
    web = [point for point in run.exported.points(f"{POOL}.count") if point.resource["service.name"] == "web"]
    assert {point.value for point in web} <= {0}


def test_contrib_has_no_durations(contrib: Run) -> None:
    """The table in docs/metrics.md."""
    assert contrib.exported.points(DURATION) == []
