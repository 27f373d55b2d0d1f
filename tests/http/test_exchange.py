"""A request is measured once, whatever happens to it: how long, how much, how it ended, and nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from starlette.requests import ClientDisconnect

from otel_cc import settings
from otel_cc.context import SCOPE_KEY
from otel_cc.http import errors
from otel_cc.metrics import bounds
from otel_cc.metrics.catalogue import BOUNDS
from tests.http.measured import END, START, Client, Measured, responds

GONE = {"type": "http.disconnect"}


def answers(*messages: dict[str, Any], first: float = 0, then: BaseException | None = None) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(first)
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


class Route:
    path_format = "/items/{number}"


async def served(measured: Measured, app: Callable[..., Any], client: Client | None = None, **scope: Any) -> Client:
    try:
        return await measured(app, client, route=Route(), **scope)
    except (ValueError, OSError, ClientDisconnect, asyncio.CancelledError):
        return client or Client()


LABELS = {
    "http.request.method": "GET",
    "url.scheme": "http",
    "network.protocol.version": "1.1",
    "http.route": "/items/{number}",
    "http.response.status_code": 200,
}
ROUTE = "/items/{number}"


def test_a_request_is_measured_by_three_made_with_the_same_labels(measured: Measured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        for message in responds(200, b"four", b"more"):
            await send(message)

    client = Client(
        {"type": "http.request", "body": b"123", "more_body": True},
        {"type": "http.request", "body": b"45", "more_body": False},
    )
    asyncio.run(served(measured, app, client))
    assert measured.points("http.server.request.body.size") == [(LABELS, (1, 5))]
    assert measured.points("http.server.response.body.size") == [(LABELS, (1, 8))]
    ((labels, (count, _)),) = measured.points("http.server.request.duration")
    assert (labels, count) == (LABELS, 1)
    assert measured.points("http.server.active_requests") == [({"http.request.method": "GET", "url.scheme": "http"}, 0)]
    assert measured.errors() == {}
    assert measured.counts("http.server.disconnects") == {}


def test_a_body_that_the_application_did_not_take_is_not_counted(measured: Measured) -> None:
    client = Client({"type": "http.request", "body": b"12345", "more_body": False})
    asyncio.run(served(measured, answers(*responds()), client, method="POST"))
    assert [value for _, value in measured.points("http.server.request.body.size")] == [(1, 0)]


def test_an_answer_to_head_has_no_body(measured: Measured) -> None:
    asyncio.run(served(measured, answers(*responds(200, b"dropped")), method="HEAD"))
    assert [value for _, value in measured.points("http.server.response.body.size")] == [(1, 0)]


def test_a_file_that_the_server_sends_itself_is_counted(measured: Measured, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    asyncio.run(served(measured, answers(START, {"type": "http.response.pathsend", "path": str(path)})))
    assert [value for _, value in measured.points("http.server.response.body.size")] == [(1, 1000)]


def test_what_comes_after_the_last_byte_is_not_part_of_the_request(measured: Measured) -> None:
    sent: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in responds():
            await send(message)
        sent.append(time.perf_counter())
        await asyncio.sleep(0.3)

    async def watch() -> None:
        task = asyncio.create_task(served(measured, app))
        await asyncio.sleep(0.1)
        assert len(measured.measures.requests) == 0
        await task

    began = time.perf_counter()
    asyncio.run(watch())
    ((_, (_, seconds)),) = measured.points("http.server.request.duration")
    assert seconds < sent[0] - began


def test_a_server_error_ends_with_its_last_byte_too(measured: Measured) -> None:
    sent: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in responds(503):
            await send(message)
        sent.append(time.perf_counter())
        assert len(measured.measures.requests) == 0
        await asyncio.sleep(0.3)

    began = time.perf_counter()
    asyncio.run(served(measured, app))
    ((_, (_, seconds)),) = measured.points("http.server.request.duration")
    assert seconds < sent[0] - began


UNHANDLED = ValueError("unhandled")
# What the application does: status and error.type of the duration, and what is counted as an error.
OUTCOMES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[tuple[Any, ...], int]]] = {
    "a plain 500": (answers(*responds(500)), (500, "500"), {(ROUTE, 500, "500"): 1}),
    "a plain member of HTTPStatus": (answers(*responds(HTTPStatus(502))), (502, "502"), {(ROUTE, 502, "502"): 1}),
    "a plain 404": (answers(*responds(404)), (404, None), {}),
    "unhandled": (answers(*responds(500), then=UNHANDLED), (500, "ValueError"), {(ROUTE, 500, "ValueError"): 1}),
    "unhandled, the server answers": (answers(then=UNHANDLED), (None, "ValueError"), {(ROUTE, 500, "ValueError"): 1}),
    "unhandled in the middle": (
        answers(*responds(200, b"x")[:-1], then=UNHANDLED), (200, "ValueError"), {(ROUTE, 200, "ValueError"): 1},
    ),
    "unhandled afterwards": (answers(*responds(), then=UNHANDLED), (200, None), {(ROUTE, 200, "ValueError"): 1}),
    "no answer": (answers(), (None, "no_response"), {(ROUTE, 500, "no_response"): 1}),
    "half an answer": (answers(START), (200, "incomplete_response"), {(ROUTE, 200, "incomplete_response"): 1}),
    "cancelled by the server": (
        answers(then=asyncio.CancelledError()),
        (None, "asyncio.exceptions.CancelledError"),
        {(ROUTE, 500, "asyncio.exceptions.CancelledError"): 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTCOMES)
def test_an_outcome_is_counted_once(measured: Measured, case: str) -> None:
    app, outcome, counted = OUTCOMES[case]
    asyncio.run(served(measured, app))
    assert measured.counts("http.server.request.duration", "http.response.status_code", "error.type") == {outcome: 1}
    assert measured.errors() == counted
    assert measured.counts("http.server.disconnects") == {}
    assert measured.counts("http.server.active_requests") == {(): 0}
    (span,) = measured.spans()
    failed = StatusCode.ERROR if outcome[1] is not None else StatusCode.UNSET
    assert (span.status.status_code, (span.attributes or {}).get("error.type")) == (failed, outcome[1])


def noting(error: Exception, *messages: dict[str, Any]) -> Callable[..., Any]:
    """A handler that turns an exception into a response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        errors.note(scope, error)
        await answers(*messages)(scope, receive, send)

    return app


def test_a_handled_exception_is_an_error_only_with_a_5xx(measured: Measured) -> None:
    for status in (200, 400, 503):
        asyncio.run(served(measured, noting(ValueError(), *responds(status))))
    assert measured.errors() == {(ROUTE, 503, "ValueError"): 1}


async def leaves_and_app_asks(scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == GONE
    for message in responds():
        await send(message)


async def leaves_and_app_stops(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    assert await receive() == GONE


async def leaves_in_the_body(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    # As ServerErrorMiddleware does.
    await answers(*responds(500), then=ClientDisconnect())(scope, receive, send)


async def leaves_and_the_server_cancels(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise asyncio.CancelledError


async def leaves_and_the_app_fails(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await answers(*responds(500), then=UNHANDLED)(scope, receive, send)


DISCONNECTED = "client_disconnected"
LEAVING: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[tuple[Any, ...], int]]] = {
    "the application asks": (leaves_and_app_asks, (200, DISCONNECTED), {}),
    "the application stops": (leaves_and_app_stops, (200, DISCONNECTED), {}),
    "in the middle of its body": (leaves_in_the_body, (None, DISCONNECTED), {}),
    "the server cancels": (leaves_and_the_server_cancels, (None, DISCONNECTED), {}),
    "and the application fails by itself": (
        leaves_and_the_app_fails, (500, "ValueError"), {(ROUTE, 500, "ValueError"): 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAVING)
def test_a_client_that_leaves_is_no_error_of_the_server(measured: Measured, case: str) -> None:
    app, outcome, counted = LEAVING[case]
    asyncio.run(served(measured, app, Client(GONE)))
    assert measured.counts("http.server.request.duration", "http.response.status_code", "error.type") == {outcome: 1}
    assert measured.points("http.server.disconnects") == [({"http.request.method": "GET", "http.route": ROUTE}, 1)]
    assert measured.errors() == counted
    assert measured.counts("http.server.active_requests") == {(): 0}
    (span,) = measured.spans()
    assert span.status.status_code == (StatusCode.ERROR if counted else StatusCode.UNSET)


def test_a_client_that_leaves_is_seen_by_the_send_that_fails(measured: Measured) -> None:
    client = Client()
    client.breaks = ConnectionResetError()
    asyncio.run(served(measured, answers(*responds()), client))
    assert measured.counts("http.server.disconnects") == {(): 1}
    assert measured.errors() == {}


def test_a_client_that_leaves_is_seen_where_uvicorn_drops_the_answer(measured: Measured) -> None:
    client = Client()
    client.disconnected = True
    asyncio.run(served(measured, answers(*responds()), client))
    assert measured.counts("http.server.disconnects") == {(): 1}


def test_the_disconnect_that_every_server_tells_after_a_response_is_none(measured: Measured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in responds():
            await send(message)
        assert await receive() == GONE

    asyncio.run(served(measured, app, Client(GONE)))
    assert measured.counts("http.server.disconnects") == {}


def test_nothing_stays_open_when_a_request_never_ends(measured: Measured) -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    async def run() -> None:
        task = asyncio.create_task(served(measured, hangs))
        await asyncio.sleep(0)
        assert measured.counts("http.server.active_requests", "http.request.method") == {("GET",): 1}
        task.cancel()
        await task
        # And one that is only closed, as at the end of an interpreter.
        coroutine = measured(hangs)
        coroutine.send(None)
        assert measured.counts("http.server.active_requests", "http.request.method") == {("GET",): 1}
        coroutine.close()

    asyncio.run(run())
    assert measured.counts("http.server.active_requests", "http.request.method") == {("GET",): 0}


def test_an_unknown_path_has_no_label(measured: Measured) -> None:
    asyncio.run(measured(noting(ValueError(), *responds(500))))
    assert measured.errors() == {("unmatched", 500, "ValueError"): 1}
    assert measured.counts("http.server.request.duration", "http.route") == {(None,): 1}


def test_what_clients_choose_makes_no_series(measured: Measured) -> None:
    """10,000 paths, hosts, methods, schemes and versions."""

    async def run() -> None:
        for number in range(10_000):
            await measured(
                answers(*responds(404)),
                Client(GONE),
                path=f"/{number}",
                method=f"M{number}",
                scheme=f"s{number}",
                http_version=f"9.{number}",
                headers=[(b"host", b"h%d" % number)],
            )

    asyncio.run(run())
    other = {"http.request.method": "_OTHER", "url.scheme": "_OTHER"}
    labels = {**other, "network.protocol.version": "_OTHER", "http.response.status_code": 404}
    for name in ("http.server.request.duration", "http.server.request.body.size", "http.server.response.body.size"):
        ((found, (count, _)),) = measured.points(name)
        assert (found, count) == (labels, 10_000)
    assert measured.points("http.server.active_requests") == [(other, 0)]


def test_what_the_application_chooses_is_bounded(measured: Measured) -> None:
    """10,000 routes and exception classes, as an application makes that builds them while it runs."""
    bounds._seen.clear()

    async def run() -> None:
        for number in range(10_000):
            route = type("Route", (), {"path_format": f"/{number}"})()
            error = type(f"Error{number % 1000}", (ValueError,), {})()
            try:
                await measured(answers(then=error), route=route)
            except ValueError:
                pass

    try:
        asyncio.run(run())
        for name, labels in {
            "http.server.request.duration": ("http.route", "error.type"),
            "commandcenter.errors": ("endpoint", "error_type"),
        }.items():
            points = measured.points(name)
            assert sum(value[0] if isinstance(value, tuple) else value for _, value in points) == 10_000
            for label in labels:
                values = {attributes.get(label) for attributes, _ in points} - {None}
                assert len(values) <= BOUNDS[label]
                assert "_OTHER" in values
    finally:
        bounds._seen.clear()


def test_a_mounted_application_is_part_of_the_request(measured: Measured) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        assert SCOPE_KEY in scope
        # The entrance of the mounted application.
        await measured.entrance.wrap(lambda _, *asgi: answers(*responds(200, b"x"))(*asgi))(
            object(), scope, receive, send
        )

    asyncio.run(served(measured, inner))
    assert [value for _, value in measured.points("http.server.response.body.size")] == [(1, 1)]


def test_an_excluded_url_is_not_measured(monkeypatch: pytest.MonkeyPatch, measured: Measured) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "/health,^http://internal/")
    measured.open()

    async def run() -> None:
        await served(measured, answers(*responds(500)), path="/health")
        await served(measured, answers(*responds(500)), headers=[(b"host", b"internal")])
        await served(measured, answers(*responds()), path="/other")

    asyncio.run(run())
    assert measured.counts("http.server.request.duration", "http.response.status_code") == {(200,): 1}
    assert measured.errors() == {}
    assert len(measured.spans()) == 1


def test_a_proxys_header_is_read(measured: Measured) -> None:
    began = time.time()
    for header in (b"x-request-start", b"x-queue-start"):
        sent = b"t=%.3f" % (time.time() - 2)
        asyncio.run(served(measured, answers(*responds()), headers=[(header, sent)]))
    asyncio.run(served(measured, answers(*responds()), headers=[(b"x-request-start", b"nonsense")]))
    ((labels, (count, seconds)),) = measured.points("http.server.request.queue.duration")
    assert (labels, count) == ({}, 2)
    # The header has milliseconds.
    assert 4 - 0.002 <= seconds < 4 + 2 * (time.time() - began)


async def from_a_public_address(measured: Measured) -> None:
    call = measured.entrance.wrap(lambda _, *asgi: answers(*responds())(*asgi))
    sent = [(b"x-request-start", b"t=%.3f" % (time.time() - 2))]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": sent, "client": ("8.8.8.8", 50000)}
    client = Client()
    await call(object(), scope, client.receive, client.send)


def test_a_public_client_cannot_make_up_a_wait(measured: Measured) -> None:
    asyncio.run(from_a_public_address(measured))
    assert measured.points("http.server.request.queue.duration") == []


def test_a_network_that_is_named_may_be_public(monkeypatch: pytest.MonkeyPatch, measured: Measured) -> None:
    monkeypatch.setenv("OTEL_CC_TRUST_INBOUND", "8.8.0.0/16")
    settings.get.cache_clear()
    try:
        measured.open()
        asyncio.run(from_a_public_address(measured))
        assert [count for _, (count, _) in measured.points("http.server.request.queue.duration")] == [1]
    finally:
        monkeypatch.undo()
        settings.get.cache_clear()


@pytest.mark.parametrize("status", [600, 999, 42])
def test_a_status_that_http_does_not_have_is_no_label(measured: Measured, status: int) -> None:
    asyncio.run(served(measured, answers(*responds(status))))
    ((labels, _),) = measured.points("http.server.request.duration")
    assert "http.response.status_code" not in labels
    ((labels, _),) = measured.points("http.server.response.body.size")
    assert "http.response.status_code" not in labels
    assert [set(labels) for labels, _ in measured.points("commandcenter.errors")] == (
        [{"endpoint", "error_type"}] if status >= 500 else []
    )


@pytest.mark.parametrize("trust", ["never", "10.0.0.0/8"])
def test_a_header_of_somebody_who_is_not_trusted_is_not_read(
    monkeypatch: pytest.MonkeyPatch, measured: Measured, trust: str
) -> None:
    monkeypatch.setenv("OTEL_CC_TRUST_INBOUND", trust)
    settings.get.cache_clear()
    try:
        measured.open()
        sent = b"t=%.3f" % (time.time() - 2)
        asyncio.run(served(measured, answers(*responds()), headers=[(b"x-request-start", sent)]))
        assert measured.points("http.server.request.queue.duration") == []
    finally:
        monkeypatch.undo()
        settings.get.cache_clear()


def test_an_exemplar_leads_to_the_span(measured: Measured) -> None:
    asyncio.run(served(measured, answers(*responds(200, b"x" * 100_000))))
    (span,) = measured.spans()
    data = measured.reader.get_metrics_data()
    assert data is not None and span.context is not None
    found = {
        metric.name: exemplar.trace_id
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        for exemplar in point.exemplars
    }
    assert found == dict.fromkeys(
        ("http.server.request.duration", "http.server.response.body.size"), span.context.trace_id
    )


def test_where_somebody_else_measures_only_the_rest_is_ours(measured: Measured) -> None:
    class Instrumented:
        _is_instrumented_by_opentelemetry = True

    async def run() -> None:
        call = measured.entrance.wrap(lambda _, *asgi: answers(*responds(503))(*asgi))
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-start", b"t=1700000000")]}
        client = Client()
        await call(Instrumented(), scope, client.receive, client.send)

    asyncio.run(run())
    assert measured.errors() == {("unmatched", 503, "503"): 1}
    for name in ("duration", "body.size"):
        assert measured.points(f"http.server.request.{name}") == []
    assert measured.points("http.server.active_requests") == []
    assert measured.spans() == ()


def test_the_last_message_is_the_end(measured: Measured) -> None:
    """Not one that is followed by more, and not one of another kind."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.debug", "info": {}})
        await send({**END, "more_body": True})
        assert len(measured.measures.requests) == 1
        await send(END)
        assert len(measured.measures.requests) == 0

    asyncio.run(served(measured, app))


def test_an_application_that_is_tried_after_another_one_is_measured_too(measured: Measured) -> None:
    """A dispatcher hands the same scope to one application after the other until one knows the path."""
    scope: dict[str, Any] = {"path": "/raw/path"}

    async def dispatcher() -> None:
        client = Client()
        await first(object(), scope, client.receive, client.send)
        await second(object(), scope, client.receive, client.send)

    first = measured.entrance.wrap(lambda _, *given: answers(*responds(404))(*given))
    second = measured.entrance.wrap(lambda _, *given: answers(then=ValueError("second"))(*given))
    scope |= {"type": "http", "method": "GET", "headers": [], "client": None}
    with pytest.raises(ValueError, match="second"):
        asyncio.run(dispatcher())
    assert measured.counts("http.server.request.duration", "http.response.status_code", "error.type") == {
        (404, None): 1,
        (None, "ValueError"): 1,
    }
    assert len(measured.spans()) == 2


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_what_a_request_held_is_free_without_a_garbage_collection(measured: Measured, error: Exception | None) -> None:
    class Held:
        pass

    def app() -> Callable[..., Any]:
        held = Held()
        alive.append(weakref.ref(held))

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            scope["held"], _mine = held, held
            if error is not None:
                raise ValueError("no")
            await answers(*responds())(scope, receive, send)

        return fails

    async def serve() -> None:
        for _ in range(5):
            with contextlib.suppress(ValueError):
                await measured(app())

    alive: list[weakref.ref[Held]] = []
    gc.collect()
    gc.disable()
    try:
        asyncio.run(serve())
        assert [ref for ref in alive if ref() is not None] == []
    finally:
        gc.enable()
