"""What the demo knows of one request, and what must hold: the same ID at every hop of the data path.

What is compared was written by others than us where possible: the response as the client got it, the spans as they
arrived over OTLP, the SQL comment as PostgreSQL logged it, the log lines as the two processes wrote them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from otel_cc.context import ATTRIBUTE
from otel_cc.local import sql_comment
from otel_cc.local.application import API, WORKER
from otel_cc.local.postgres import Statement
from otel_cc.local.signals import Span

HEADER = "X-Request-ID"


@dataclass(frozen=True)
class Request:
    """One request of the demo and what is expected of it.

    :param title: what it shows
    :param status: the expected status
    :param runs: how often the worker runs a task for it (a retry is one more run)
    :param sql: which services send SQL for it
    :param trace: "id" when the request ID is the trace ID, "caller" when a traceparent brought it, "new" when it is
        independent of the ID
    """

    title: str
    method: str
    path: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    sql: tuple[str, ...] = ()
    trace: str = "id"


@dataclass(frozen=True)
class Response:
    """What the client got; ``ids`` are all request ID headers, ``seconds`` the time until the last byte."""

    status: int
    ids: list[str]
    body: str
    seconds: float


@dataclass(frozen=True)
class LogLine:
    """One JSON line that a process of the shop wrote."""

    service: str
    fields: dict[str, Any]

    @property
    def level(self) -> str:
        """The level in capitals."""
        return str(self.fields.get("level") or "").upper()

    @property
    def message(self) -> str:
        """The text."""
        return str(self.fields.get("message") or "")

    @property
    def exception(self) -> str:
        """Type and text of the exception that was logged, if any."""
        exception = self.fields.get("exception")
        return f"{exception.get('type')}: {exception.get('message')}" if isinstance(exception, dict) else ""


@dataclass(frozen=True)
class Check:
    """One thing that must hold; ``problem`` says what was found instead, empty when it holds."""

    name: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.problem


@dataclass(frozen=True)
class Evidence:
    """Everything that was found about one request.

    :param spans: those of its trace and those with its ID, in order of their start
    :param statements: those whose comment has its ID
    :param lines: those with its ID
    """

    request: Request
    response: Response
    request_id: str
    spans: list[Span]
    statements: list[Statement]
    lines: list[LogLine]

    @property
    def trace_id(self) -> str:
        """The trace of its spans, or "" when there is none."""
        return self.spans[0].trace_id if self.spans else ""

    def checks(self) -> list[Check]:
        """What must hold for this request."""
        found = [_status(self), _header(self)]
        if self.response.status >= 400:
            found.append(_error_body(self))
        found.append(_trace(self))
        if self.request.runs:
            found.append(_worker(self))
        if self.request.sql:
            found.append(_sql(self))
        found.append(_logs(self))
        return found


def expected_trace_id(request: Request, request_id: str) -> str | None:
    """The trace ID that a request must get, or None when it is a new one."""
    if request.trace == "caller":
        return request.headers["traceparent"].split("-")[1]
    return request_id.replace("-", "").lower() if request.trace == "id" else None


def _status(found: Evidence) -> Check:
    request, response = found.request, found.response
    good = response.status == request.status
    return Check(
        "status", "" if good else f"the status is {response.status} instead of {request.status}: {response.body[:200]}"
    )


def _header(found: Evidence) -> Check:
    response = found.response
    given = found.request.headers.get(HEADER)
    if len(response.ids) != 1:
        return Check("response header", f"the response has {len(response.ids)} {HEADER} headers instead of one")
    if given is not None and response.ids != [given]:
        return Check("response header", f"the response has {response.ids[0]} instead of {given}")
    return Check("response header")


def _error_body(found: Evidence) -> Check:
    name, text = "error body", found.response.body
    try:
        body = json.loads(text)
    except ValueError:
        return Check(name, f"the error body is not JSON: {text[:80]}")
    if not isinstance(body, dict) or body.get("request_id") != found.request_id or "detail" not in body:
        return Check(name, f"the error body lacks detail or request_id: {text[:200]}")
    return Check(name)


def _trace(found: Evidence) -> Check:
    name, spans = "trace", found.spans
    if not spans:
        return Check(name, "no spans arrived for it")
    traces = {span.trace_id for span in spans}
    if len(traces) != 1:
        return Check(name, f"its spans are in {len(traces)} traces instead of one")
    expected = expected_trace_id(found.request, found.request_id)
    if expected is not None and traces != {expected}:
        return Check(name, f"its trace is {found.trace_id} instead of {expected}")
    servers = [span for span in spans if span.kind == "SERVER" and span.service == API]
    if len(servers) != 1:
        return Check(name, f"the API has {len(servers)} server spans for it instead of one")
    if strangers := [span.name for span in spans if span.attributes.get(ATTRIBUTE) != found.request_id]:
        return Check(name, f"spans without {ATTRIBUTE}={found.request_id}: {', '.join(strangers)}")
    known = {span.span_id for span in spans}
    if orphans := [span.name for span in spans if span.parent_id not in known and span is not servers[0]]:
        return Check(name, f"spans whose parent is missing: {', '.join(orphans)}")
    return Check(name)


def _worker(found: Evidence) -> Check:
    runs = sum(span.kind == "CONSUMER" and span.service == WORKER for span in found.spans)
    wanted = found.request.runs
    return Check(
        "worker", "" if runs == wanted else f"the worker has {runs} runs of the task in its trace instead of {wanted}"
    )


def _sql(found: Evidence) -> Check:
    name = "PostgreSQL log"
    clients = {statement.application for statement in found.statements}
    if missing := [service for service in found.request.sql if service not in clients]:
        return Check(name, f"PostgreSQL logged no statement of {' and '.join(missing)} with {found.request_id}")
    # To connect is no statement.
    operations = [
        span.attributes.get("db.operation.name") for span in found.spans if "db.system.name" in span.attributes
    ]
    made = sum(operation != "CONNECT" for operation in operations)
    if made != len(found.statements):
        return Check(name, f"PostgreSQL logged {len(found.statements)} statements with its ID, and {made} spans say so")
    for statement in found.statements:
        if found.trace_id not in sql_comment.pairs(statement.sql).get("traceparent", ""):
            return Check(name, f"a comment names another trace than {found.trace_id}: {statement.sql[-200:]}")
    return Check(name)


def _logs(found: Evidence) -> Check:
    wanted = {API, WORKER} if found.request.runs else {API}
    if missing := sorted(wanted - {line.service for line in found.lines}):
        return Check("log lines", f"no log line of {' and '.join(missing)} has its ID")
    if strangers := [line.message for line in found.lines if line.fields.get("trace_id") != found.trace_id]:
        return Check(
            "log lines", f"log lines that name another trace than {found.trace_id}: {'; '.join(strangers)[:200]}"
        )
    return Check("log lines")
