"""What the exported metrics say of 10,000 requests is what the client and the handlers counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.truth.exported import Labels, difference
from tests.truth.mix import CHATS, KINDS, PUBLISHES, REQUESTS, mix
from tests.truth.stage import SERVERS, Run

ALL = {**KINDS, **PUBLISHES}
DURATION = "http.server.request.duration"
REQUEST_SIZE = "http.server.request.body.size"
RESPONSE_SIZE = "http.server.response.body.size"
ROUTE = ("http.request.method", "http.route")
STATUS = "http.response.status_code"
# How long the background task of an endpoint runs, in seconds.
BACKGROUND = 0.1


def label(kind: str) -> tuple[str, str]:
    """Method and route of a kind of request, as labels."""
    found = ALL[kind]
    method = found.method if found.method != "PROPFIND" else "_OTHER"
    return method, found.template or ""


def error_type(kind: str, status: int | None) -> str:
    """The ``error.type`` of a kind of request."""
    found = ALL[kind]
    if found.end.startswith("leaves"):
        return "client_disconnected"
    if found.raised is not None:
        return found.raised
    return found.error or "" if status is not None and status >= 500 else ""


def test_the_mix_is_as_large_as_it_says() -> None:
    assert len(mix().planned) == REQUESTS


def test_the_client_saw_what_was_planned(run: Run) -> None:
    wrong = {
        (kind, status): number
        for (kind, status), number in run.tally.answers.items()
        if ALL[kind].status is not None and status != ALL[kind].status
    }
    assert wrong == {}
    assert run.tally.chats == {
        (name, chat.code if chat.code is not None else -(chat.refused or 0)): chat.count for name, chat in CHATS.items()
    }


def test_every_server_process_took_part(run: Run) -> None:
    assert len({process for process, _ in run.exported.last[DURATION]}) == SERVERS


def test_requests_by_method_version_route_status_and_error(own: Run) -> None:
    truth: Counter[Labels] = Counter()
    gone: Counter[Labels] = Counter()
    for (kind, status), number in own.tally.answers.items():
        key = (label(kind)[0], ALL[kind].version, label(kind)[1])
        if status is None:
            gone[(*key, error_type(kind, status))] += number
        else:
            truth[(*key, status, error_type(kind, status))] += number
    labels = ("http.request.method", "network.protocol.version", "http.route")
    exported = own.exported.totals(DURATION, *labels, STATUS, "error.type")
    left = {(*key, "client_disconnected") for *key, _, error in exported if error == "client_disconnected"}
    # Whether one that the client left had a status by then, it cannot know.
    assert difference({k: v for k, v in exported.items() if (*k[:3], k[4]) not in gone}, truth) == {}
    counted = own.exported.totals(DURATION, *labels, "error.type")
    assert difference({k: v for k, v in counted.items() if k in gone}, gone) == {}
    assert set(gone) <= left
    assert {p.attributes["url.scheme"] for p in own.exported.points(DURATION)} == {"http"}


def test_the_three_histograms_of_a_request_have_the_same_counts(own: Run) -> None:
    labels = (*ROUTE, STATUS, "error.type")
    first, *others = (own.exported.totals(name, *labels) for name in (DURATION, REQUEST_SIZE, RESPONSE_SIZE))
    for other in others:
        assert difference(other, first) == {}


def test_bytes_of_bodies(own: Run) -> None:
    sent: Counter[Labels] = Counter()
    received: Counter[Labels] = Counter()
    gone = set()
    for kind, status in own.tally.answers:
        if ALL[kind].end.startswith("leaves"):
            gone.add(label(kind))
        # What nobody reads, the application did not receive.
        sent[(*label(kind), status)] += own.tally.sent[kind] if kind != "unread" else 0
        received[(*label(kind), status)] += own.tally.received[kind]
    for name, truth in ((REQUEST_SIZE, sent), (RESPONSE_SIZE, received)):
        exported = own.exported.totals(name, *ROUTE, STATUS, sums=True)
        # How much of an answer was on its way when the client left, it cannot know.
        assert difference(
            {k: v for k, v in exported.items() if k[:2] not in gone},
            {k: v for k, v in truth.items() if k[:2] not in gone},
        ) == {}, name  # fmt: skip
    echoed = sum(own.tally.sent[kind] for kind in ("echo", "echo chunked"))
    assert own.events["body", "/echo"] == echoed


def test_a_background_task_is_no_part_of_its_request(own: Run) -> None:
    shortest = [p.min for p in own.exported.points(DURATION) if p.attributes.get("http.route") == "/background"]
    assert 0 < len(shortest) <= SERVERS
    assert max(value or 0.0 for value in shortest) < BACKGROUND
    assert own.events[("background",)] == ALL["background"].count + ALL["background fails"].count


def test_time_in_front_of_the_server(run: Run) -> None:
    assert run.exported.totals("http.server.request.queue.duration") == {(): ALL["queued"].count}


def test_errors_by_endpoint_status_and_type(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (kind, status), number in run.tally.answers.items():
        found = ALL[kind]
        if found.error is not None:
            truth[found.template or "unmatched", status, found.error] += number
        elif kind == "background fails":
            truth[found.template, status, "application.Unhandled"] += number
    for (name, code), number in run.tally.chats.items():
        chat = CHATS[name]
        if chat.error is not None:
            truth[chat.route, 101 if code > 0 else -code, chat.error] += number
    exported = run.exported.totals("commandcenter.errors", "endpoint", "status_code", "error_type",
                                   where=lambda p: "endpoint" in p.attributes)  # fmt: skip
    assert difference(exported, truth) == {}


def test_websockets_by_route_code_and_error(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (name, code), number in run.tally.chats.items():
        chat = CHATS[name]
        # A code that a client has made up is not a label.
        shown = "" if code < 0 else "_OTHER" if chat.closes == 3001 else str(int(code))
        truth[chat.route or "", shown, chat.error or ""] += number
    labels = ("http.route", "websocket.close_code", "error.type")
    assert difference(run.exported.totals("websocket.server.connection.duration", *labels), truth) == {}


def test_clients_that_went_away(run: Run) -> None:
    truth: Counter[Labels] = Counter()
    for (kind, _), number in run.tally.answers.items():
        if ALL[kind].end.startswith("leaves"):
            truth[label(kind)] += number
    assert difference(run.exported.totals("http.server.disconnects", *ROUTE), truth) == {}
    assert run.events["left", "/watched"] == ALL["watched"].count


def test_nothing_is_active_when_nothing_happens(run: Run) -> None:
    for name in ("http.server.active_requests", "websocket.server.active_connections"):
        assert {point.value for point in run.idle.points(name)} == {0}, name


def test_what_contrib_counts_differently(contrib: Run) -> None:
    """The table in docs/metrics.md: it misses errors, and counts a request to a mounted FastAPI application twice."""
    truth: Counter[Labels] = Counter()
    for (kind, status), number in contrib.tally.answers.items():
        method, route = label(kind)
        if route.startswith("/tenants/"):
            # Once for the mount, and once for the route inside.
            inner = route.removeprefix("/tenants/{tenant}")
            truth[method, inner, status] += number
            route = "/tenants/{tenant}"
        elif route.startswith("/starlette/"):
            route = "/starlette"
        truth[method, route, 200 if status is None else status] += number
    assert difference(contrib.exported.totals(DURATION, *ROUTE, STATUS), truth) == {}
    errors = {p.attributes.get("error.type", "") for p in contrib.exported.points(DURATION)}
    assert errors == {"", "500", "502", "503"}
    durations: list[Any] = [p for p in contrib.exported.points(DURATION)
                            if p.attributes.get("http.route") == "/background"]  # fmt: skip
    assert min(p.min for p in durations) >= BACKGROUND
