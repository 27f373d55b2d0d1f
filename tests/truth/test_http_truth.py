"""What the exported metrics say of 10,000 requests is what the client and the handlers counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.truth.exported import difference
from tests.truth.mix import CHATS, KINDS, PUBLISHES
from tests.truth.stage import SERVERS, Run

ALL = {**KINDS, **PUBLISHES}
DURATION = "http.server.request.duration"


def label(kind: str) -> tuple[str, str]:
    """Method and route of a kind of request, as labels."""
    found = ALL[kind]
    method = found.method if found.method != "PROPFIND" else "_OTHER"
    return method, found.template or ""


def test_the_client_saw_what_was_planned(own: Run) -> None:
    wrong = {
        (kind, status): number
        for (kind, status), number in own.tally.answers.items()
        if ALL[kind].status is not None and status != ALL[kind].status
    }
    assert wrong == {}


def test_every_server_process_took_part(own: Run) -> None:
    processes = {process for process, _ in own.exported.last[DURATION]}
    assert len(processes) == SERVERS


def test_requests_by_method_route_and_status(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    left: Counter[tuple[Any, ...]] = Counter()
    for (kind, status), number in own.tally.answers.items():
        if ALL[kind].status is None:
            left[label(kind)] += number
        else:
            truth[(*label(kind), status)] += number
    gone = set(left)
    labels = ("http.request.method", "http.route", "http.response.status_code")
    exported = own.exported.totals(DURATION, *labels)
    known = {key: value for key, value in exported.items() if key[:2] not in gone}
    assert difference(known, truth) == {}
    # Whether one that the client left had a status by then is the server's secret.
    assert difference(own.exported.totals(DURATION, *labels[:2], where=lambda p: (
        p.attributes["http.request.method"], p.attributes.get("http.route", "")) in gone), left) == {}  # fmt: skip


def test_the_three_histograms_of_a_request_have_the_same_counts(own: Run) -> None:
    names = (DURATION, "http.server.request.body.size", "http.server.response.body.size")
    labels = ("http.request.method", "http.route", "http.response.status_code", "error.type")
    first, *others = (own.exported.totals(name, *labels) for name in names)
    for other in others:
        assert difference(other, first) == {}


def test_errors_by_endpoint_status_and_type(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    for (kind, status), number in own.tally.answers.items():
        found = ALL[kind]
        if found.error is not None:
            truth[found.template or "unmatched", status, found.error] += number
        elif kind == "background fails":
            truth[found.template, status, "application.Unhandled"] += number
    for name, chat in CHATS.items():
        if chat.error is not None:
            truth[chat.route, 101 if chat.code is not None else 500, chat.error] += chat.count
        elif name in ("ws refused", "ws unknown"):
            continue
    exported = own.exported.totals("commandcenter.errors", "endpoint", "status_code", "error_type",
                                   where=lambda p: "endpoint" in p.attributes)  # fmt: skip
    assert difference(exported, truth) == {}


def test_websockets_by_route(own: Run) -> None:
    truth = Counter({chat.route or "": 0 for chat in CHATS.values()})
    for chat in CHATS.values():
        truth[chat.route or ""] += chat.count
    exported = own.exported.totals("websocket.server.connection.duration", "http.route")
    assert difference(exported, {(route,): number for route, number in truth.items()}) == {}


def test_clients_that_went_away(own: Run) -> None:
    truth: Counter[tuple[Any, ...]] = Counter()
    for (kind, _), number in own.tally.answers.items():
        if ALL[kind].end.startswith("leaves"):
            truth[label(kind)] += number
    exported = own.exported.totals("http.server.disconnects", "http.request.method", "http.route")
    assert difference(exported, truth) == {}


def test_nothing_is_active_when_nothing_happens(own: Run) -> None:
    for name in ("http.server.active_requests", "websocket.server.active_connections"):
        assert {point.value for point in own.idle.points(name)} == {0}, name


def test_no_cumulative_value_falls(own: Run) -> None:
    assert own.exported.falls == []
