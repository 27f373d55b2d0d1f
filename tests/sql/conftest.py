"""Engines of every driver that the installed SQLAlchemy has, what their servers received, and what was recorded of it."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
import sqlalchemy as sa
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind
from sqlalchemy.engine import base as engine_base
from sqlalchemy.ext import asyncio as sa_asyncio

from otel_cc import context, settings
from otel_cc.local.postgres import Postgres
from otel_cc.metrics import _made, bounds, counters
from otel_cc.sql import carriers, pool
from otel_cc.sql.instrumentor import SQLAlchemyInstrumentor
from otel_cc.sql.switches import switches
from otel_cc.tracing import tracer
from otel_cc.tracing.id_generator import RequestIdGenerator

VERSION = tuple(int(part) for part in sa.__version__.split(".")[:2])


@dataclass(frozen=True)
class Driver:
    """A driver as SQLAlchemy knows it.

    :param name: its name in an address, which is also its name in a comment
    :param awaits: whether it belongs to an async engine
    """

    name: str
    awaits: bool

    def __str__(self) -> str:
        return f"{self.name}{'-async' if self.awaits and self.name == 'psycopg' else ''}"

    @property
    def on_postgres(self) -> bool:
        return "sqlite" not in self.name


# SQLAlchemy 1.4 does not know psycopg 3.
_PSYCOPG = [Driver("psycopg", False), Driver("psycopg", True)] if VERSION >= (2, 0) else []
POSTGRES_DRIVERS = [Driver("psycopg2", False), *_PSYCOPG, Driver("asyncpg", True)]
SQLITE_DRIVERS = [Driver("pysqlite", False), Driver("aiosqlite", True)]
DRIVERS = [*POSTGRES_DRIVERS, *SQLITE_DRIVERS]

every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=str)
every_postgres_driver = pytest.mark.parametrize("driver", POSTGRES_DRIVERS, ids=str)

T = TypeVar("T")
_COMMENT = re.compile(r"/\*((?:[^*]|\*(?!/))*)\*/")


def comments(sql: str) -> list[dict[str, str]]:
    """Every comment in a statement, decoded by the rules of the specification."""
    return [
        {unquote(key): unquote(value[1:-1]) for key, _, value in (pair.partition("=") for pair in body.split(","))}
        for body in _COMMENT.findall(sql)
    ]


def bare(sql: str) -> str:
    """A statement without its comments."""
    return _COMMENT.sub("", sql).strip()


class Database:
    """One engine of one driver; synchronous code runs on it whatever the driver, and the server tells what it received."""

    def __init__(self, driver: Driver, url: str, postgres: Postgres | None, options: Mapping[str, Any]) -> None:
        self.driver = driver
        self._postgres = postgres
        self._loop = asyncio.new_event_loop() if driver.awaits else None
        # Looked up late, as contrib replaces these functions.
        make = sa_asyncio.create_async_engine if driver.awaits else sa.create_engine
        self.engine: Any = make(url, **options)
        self.sync_engine: Any = self.engine.sync_engine if driver.awaits else self.engine
        self._traced: list[str] = []
        if postgres is None:
            sa.event.listen(self.sync_engine, "connect", self._trace_sqlite)
        self.forget()

    def run(self, work: Callable[[Any], T], *, begin: bool = True, **execution_options: Any) -> T:
        """Call ``work`` with a connection, in a transaction."""
        if self._loop is None:
            engine = self.engine.execution_options(**execution_options)
            with engine.begin() if begin else engine.connect() as connection:
                return work(connection)

        async def main() -> T:
            engine = self.engine.execution_options(**execution_options)
            async with engine.begin() if begin else engine.connect() as connection:
                result: T = await connection.run_sync(work)
                return result

        return self.wait(main())

    def wait(self, coroutine: Any) -> Any:
        """Run a coroutine in the loop of an async engine."""
        assert self._loop is not None
        return self._loop.run_until_complete(coroutine)

    def execute(self, sql: Any, parameters: Any = None, **execution_options: Any) -> list[tuple[Any, ...]]:
        """Execute one statement in a transaction of its own and return its rows."""

        def work(connection: Any) -> list[tuple[Any, ...]]:
            result = connection.execute(sa.text(sql) if isinstance(sql, str) else sql, parameters or {})
            return [tuple(row) for row in result] if result.returns_rows else []

        return self.run(work, **execution_options)

    def forget(self) -> None:
        """Leave out of :meth:`received` what came before."""
        self._traced.clear()
        self._mark = self._postgres.mark() if self._postgres else 0

    def received(self, containing: str = "") -> list[str]:
        """The statements that the server received, as the server itself saw them."""
        if self._postgres is None:
            return [sql for sql in self._traced if containing in sql]
        return [statement.sql for statement in self._postgres.statements(containing, since=self._mark)]

    def close(self) -> None:
        if self._loop is None:
            self.engine.dispose()
        else:
            self.wait(self.engine.dispose())
            self._loop.close()

    def _trace_sqlite(self, connection: Any, _: Any) -> None:
        # aiosqlite's thread has opened it already, and sqlite3 lets this method be called from another one.
        raw = getattr(connection, "_connection", connection)
        getattr(raw, "_conn", raw).set_trace_callback(self._traced.append)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """``database(driver, **options_of_create_engine)``; call it after ``telemetry``."""
    numbers = count()
    with ExitStack() as stack:

        def connect(driver: Driver, **options: Any) -> Database:
            postgres = request.getfixturevalue("postgres") if driver.on_postgres else None
            url = (
                postgres.sqlalchemy(driver.name)
                if postgres
                else f"sqlite+{driver.name}:///{tmp_path / f'{next(numbers)}.db'}"
            )
            made = Database(driver, url, postgres, options)
            stack.callback(made.close)
            return made

        yield connect


class _Collect(SpanProcessor):
    def __init__(self, ended: list[ReadableSpan]) -> None:
        self.ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class Unit(context.Correlation):
    """A request as the tests make it."""

    __slots__ = ("_tags",)

    def __init__(self, request_id: Any, trace_id: int, tags: Mapping[str, Any]) -> None:
        super().__init__(request_id, trace_id)
        self._tags = tags

    def tags(self) -> Mapping[str, str]:
        return self._tags


TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
# What an engine does besides the statements of the application.
OPERATIONS = ("CONNECT", "COMMIT", "ROLLBACK", "PREPARE")


class Telemetry:
    """Everything that was recorded."""

    def __init__(self, sampler: Sampler) -> None:
        self.ended: list[ReadableSpan] = []
        self.provider = TracerProvider(sampler=sampler, id_generator=RequestIdGenerator(), shutdown_on_exit=False)
        self.provider.add_span_processor(_Collect(self.ended))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    @contextmanager
    def request(self, request_id: Any = "order-42", trace_id: int = TRACE_ID, **tags: Any) -> Iterator[None]:
        """What runs inside belongs to a request that has a SERVER span."""
        token = context.attach(Unit(request_id, trace_id, tags))
        try:
            with self.provider.get_tracer("test").start_as_current_span("request", kind=SpanKind.SERVER):
                yield
        finally:
            context.detach(token)

    def tree(self, *, connects: bool = False) -> list[dict[str, Any]]:
        """The whole tree of spans with everything that is the same in each run.

        :param connects: also those of opened connections; when a pool opens one is not what most tests are about
        """
        names = {span.context.span_id: span.name for span in self.ended}
        return [
            {
                "name": span.name,
                "kind": span.kind.name,
                "parent": names[span.parent.span_id] if span.parent else None,
                "status": span.status.status_code.name,
                "attributes": dict(span.attributes or {}),
            }
            for span in sorted(self.ended, key=_start)
            if connects or not _is_connect(span)
        ]

    def statements(self) -> list[ReadableSpan]:
        """The spans of statements, and of what failed at the end of a transaction."""
        spans = sorted(self.ended, key=_start)
        return [span for span in spans if span.kind is SpanKind.CLIENT and not _is_connect(span)]

    def names(self) -> list[str]:
        return [span.name for span in self.statements()]

    def points(self, name: str) -> list[Any]:
        """All points of an instrument; of a counter with their values, also of series that are new."""
        with counters.real_values():
            data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def durations(self, *operations: str) -> list[HistogramDataPoint]:
        """The points of these operations, by default of all statements."""
        return [
            point
            for point in self.points("db.client.operation.duration")
            if (point.attributes["db.operation.name"] in (operations or OPERATIONS)) is bool(operations)
        ]

    def numbers(self, name: str, *labels: str) -> dict[Any, float]:
        """The values of an instrument by these labels; of a histogram how many it has."""
        found: dict[Any, float] = {}
        for point in self.points(name):
            values = tuple(point.attributes.get(label) for label in labels)
            key = values[0] if len(labels) == 1 else values
            assert key not in found
            found[key] = point.value if isinstance(point, NumberDataPoint) else point.count
        return found

    def clear(self) -> None:
        self.ended.clear()


def _start(span: ReadableSpan) -> int:
    return span.start_time or 0


def _is_connect(span: ReadableSpan) -> bool:
    return (span.attributes or {}).get("db.operation.name") == "CONNECT"


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Telemetry]]:
    """``telemetry(producers="own", comments="always")`` puts our part in place as the launcher does, for this test.

    ``producers`` is "own", "contrib" or "none", ``comments`` the value of ``OTEL_CC_SQL_COMMENT``.
    """
    originals = {name: vars(engine_base.Engine)[name] for name in ("__init__", "raw_connection")}
    instrumentor = SQLAlchemyInstrumentor()

    def start(producers: str = "own", comments: str = "always", sampler: Sampler = ALWAYS_ON, **env: str) -> Telemetry:
        made = Telemetry(sampler)
        # What is global in OpenTelemetry can be set only once per process otherwise.
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)
        monkeypatch.setattr(metrics_api, "_METER_PROVIDER", made.meters)
        assert trace.get_tracer_provider() is made.provider
        assert metrics.get_meter_provider() is made.meters
        monkeypatch.setattr(tracer, "_tracers", {})
        _made.clear()
        bounds._seen.clear()
        # Engines of tests before this one may not have been collected yet.
        pool._pools.forget()
        monkeypatch.setenv("OTEL_CC_SQL_COMMENT", comments)
        monkeypatch.setenv("OTEL_CC_INSTRUMENTATION", "contrib" if producers == "contrib" else "own")
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        settings.get.cache_clear()
        carriers.install()
        with warnings.catch_warnings():
            # What the SDK calls a tracer's scope has been deprecated for years, and the SDK itself still needs it.
            warnings.filterwarnings("ignore", "You should use InstrumentationScope", DeprecationWarning)
            if producers != "none":
                instrumentor.instrument()
        return made

    monkeypatch.setenv("OTEL_CC_STRICT", "true")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    yield start
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    for name, original in originals.items():
        setattr(engine_base.Engine, name, original)
    switches.comments = "off"
    _made.clear()
    settings.get.cache_clear()
