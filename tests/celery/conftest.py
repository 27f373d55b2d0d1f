"""A stage for each broker: a worker, and a program that publishes inside of requests. The tests of a session share it."""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import pytest

from otel_cc.local.process import Process, Processes, says
from otel_cc.local.signals import Span
from otel_cc.local.sink import Sink
from otel_cc.local.valkey import Valkey
from tests.conftest import Launch

PROGRAM = Path(__file__).parent / "program"
_numbers = count()


def tree(spans: list[Span]) -> str:
    """The spans of one trace as text: one line for each, children indented below their parent, siblings sorted."""
    children: dict[str | None, list[Span]] = defaultdict(list)
    known = {span.span_id for span in spans}
    for span in spans:
        children[span.parent_id if span.parent_id in known else None].append(span)

    def draw(span: Span) -> list[str]:
        state = span.attributes.get("celery.task.state", "SUCCESS")
        line = span.name
        if span.status == "ERROR":
            line += f" ERROR {span.attributes.get('error.type')}"
        if state != "SUCCESS":
            line += f" {state}"
        return [line, *(f"  {inner}" for inner in below(span.span_id))]

    def below(parent: str | None) -> list[str]:
        return [line for block in sorted(draw(span) for span in children[parent]) for line in block]

    return "\n".join(below(None))


def expected(text: str) -> str:
    """A tree as a test writes it, without the indentation of the source."""
    lines = [line for line in text.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return "\n".join(line[margin:].rstrip() for line in lines)


class Driver:
    """The publishing program."""

    def __init__(self, process: Process, stack: ExitStack) -> None:
        self.process = process
        found = re.search(r"port (\d+)\.", process.output())
        assert found is not None
        self._connection: Connection = stack.enter_context(Client(("127.0.0.1", int(found[1])), authkey=b"driver"))

    def __call__(
        self, name: str, *args: Any, request_id: str | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Run a scenario inside a request with this ID, or outside of any."""
        self._connection.send((request_id, headers or {}, name, *args))
        assert self._connection.poll(30), f"{name} did not come back:\n{self.process.tail()}"
        worked, answer = self._connection.recv()
        assert worked, f"{answer}\n{self.process.tail(30)}"
        return answer


@dataclass
class Play:
    """A stage with a worker, and a driver."""

    stage: Stage
    driver: Driver
    worker: Process


@dataclass
class Stage:
    """Processes that share a broker, and the place where their telemetry arrives."""

    launch: Launch
    stack: ExitStack
    variables: dict[str, str]
    sink: Sink
    seen: list[tuple[str, str]] = field(default_factory=list)

    def driver(self, *, instrument: bool = True, **env: str) -> Driver:
        process = self.launch(
            ["python", "driver.py"],
            name="driver",
            cwd=PROGRAM,
            env={**self.variables, **env},
            instrument=instrument,
            ready=says(r"port \d+\."),
        )
        return Driver(process, self.stack)

    def worker(self, *args: str, instrument: bool = True, wait: bool = True, **env: str) -> Process:
        # How a worker ends is the matter of a few tests only, which stop it themselves. Two of one name cannot be on the
        # same broker.
        name = f"celery@worker{next(_numbers)}"
        return self.launch.worker(
            *("--hostname", name, *args),
            ready=says(rf"{name} ready\."),
            cwd=PROGRAM,
            env={**self.variables, **env},
            instrument=instrument,
            wait=wait,
            stop_signal=signal.SIGKILL,
        )

    def play(self, *args: str) -> Play:
        """A worker with these arguments and a driver, both instrumented."""
        worker = self.worker(*args, wait=False)
        driver = self.driver()
        worker.wait_ready(60)
        return Play(self, driver, worker)

    def trace(self, trace_id: str, count: int, timeout: float = 30) -> list[Span]:
        """The spans of a trace, when that many have come or the time is over."""

        def ours(span: Span) -> bool:
            return span.trace_id == trace_id

        try:
            return self.sink.wait_spans(count, timeout, ours)
        except TimeoutError:
            return self.sink.spans(ours)

    def check(self, trace_id: str, text: str) -> list[Span]:
        """Compare a whole trace, now and again when everything is over."""
        wanted = expected(text)
        spans = self.trace(trace_id, wanted.count("\n") + 1)
        assert tree(spans) == wanted
        self.seen.append((trace_id, wanted))
        return spans


@pytest.fixture(scope="session")
def stages(
    servers: Processes, tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Stage]]:
    """``stages("valkey" or "rabbitmq", **env)`` makes a stage with a queue of its own."""
    with ExitStack() as stack:
        made: list[Stage] = []

        def make(broker: str, **env: str) -> Stage:
            sink = stack.enter_context(Sink())
            processes = stack.enter_context(Processes())
            number = next(_numbers)
            url = valkey.database(0) if broker == "valkey" else request.getfixturevalue("rabbitmq").url
            variables = {"BROKER": url, "BACKEND": valkey.database(1), "QUEUE": f"queue{number}"}
            # A comment on SQLite may cost more than its short statements allow.
            variables |= {"OTEL_CC_SQL_COMMENT": "always", **env}
            stage = Stage(Launch(processes, sink, tmp_path_factory.mktemp("celery")), stack, variables, sink)
            made.append(stage)
            return stage

        yield make
        for stage in made:
            for trace_id, wanted in stage.seen:
                # Nothing came later that does not belong there.
                assert tree(stage.sink.spans(lambda span, of=trace_id: span.trace_id == of)) == wanted


@pytest.fixture(scope="session")
def plays(stages: Callable[..., Stage]) -> Callable[[str], Play]:
    """``plays("valkey" or "rabbitmq")``: the same one for every test."""

    @cache
    def play(broker: str) -> Play:
        return stages(broker).play("--pool", "prefork", "--concurrency", "2")

    return play


@pytest.fixture
def play(plays: Callable[[str], Play]) -> Play:
    """The one on Valkey, for tests to which the broker makes no difference."""
    return plays("valkey")


@pytest.fixture(scope="session")
def stranger(plays: Callable[[str], Play]) -> Driver:
    """A publishing program that is not instrumented, in front of the worker of ``play``."""
    return plays("valkey").stage.driver(instrument=False)
