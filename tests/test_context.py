"""Where the request ID lives: it follows the OpenTelemetry context, with or without a span."""

from __future__ import annotations

import asyncio
import contextvars
import pkgutil
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import context as otel_context
from opentelemetry import trace

import otel_cc
from otel_cc import context
from otel_cc.context import Correlation

ORDER = Correlation("order-42", 0x6F9619FF8B864011B42D00CF4FC964FF)
OTHER = Correlation("order-43", 0x018F3C1E7B2A7C4D9E5F0A1B2C3D4E5F)


def test_outside_of_a_request_there_is_none() -> None:
    assert context.current() is None
    assert otel_cc.current_request_id() is None


def test_inside_it_is_current_and_afterwards_gone() -> None:
    token = context.attach(ORDER)
    try:
        assert context.current() is ORDER
        assert otel_cc.current_request_id() == "order-42"
    finally:
        context.detach(token)
    assert context.current() is None


def test_a_task_run_inside_a_request_has_its_own_and_gives_it_back() -> None:
    outer = context.attach(ORDER)
    inner = context.attach(OTHER)
    assert context.current() is OTHER
    context.detach(inner)
    assert context.current() is ORDER
    context.detach(outer)


def test_it_can_be_hidden() -> None:
    outer = context.attach(ORDER)
    inner = context.attach(None)
    assert context.current() is None
    context.detach(inner)
    context.detach(outer)


def test_a_given_context_is_read_instead_of_the_current_one() -> None:
    given = context.with_correlation(ORDER)
    assert context.current(given) is ORDER
    assert context.current() is None
    assert context.current(context.with_correlation(OTHER, given)) is OTHER
    assert context.current(given) is ORDER


def test_what_else_is_in_the_context_stays() -> None:
    base = otel_context.set_value("theirs", 1)
    assert context.with_correlation(ORDER, base)["theirs"] == 1


def test_it_needs_no_span_and_leaves_the_current_span_alone() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    given = context.with_correlation(ORDER, trace.set_span_in_context(span))
    assert trace.get_current_span(given) is span
    assert trace.get_current_span(context.with_correlation(ORDER)) is trace.INVALID_SPAN


def test_what_somebody_else_stored_is_not_taken_for_it() -> None:
    key = next(iter(context.with_correlation(ORDER)))
    assert context.current(otel_context.set_value(key, "order-42")) is None


def test_concurrent_requests_do_not_see_each_other() -> None:
    async def request(correlation: Correlation) -> list[Correlation | None]:
        token = context.attach(correlation)
        seen = []
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(context.current())
        seen.append(await asyncio.to_thread(context.current))
        seen.append(await asyncio.create_task(child()))
        context.detach(token)
        return seen

    async def child() -> Correlation | None:
        return context.current()

    async def both() -> list[list[Correlation | None]]:
        return await asyncio.gather(request(ORDER), request(OTHER))

    assert asyncio.run(both()) == [[ORDER] * 5, [OTHER] * 5]


def test_it_follows_a_copied_context_into_a_thread() -> None:
    token = context.attach(ORDER)
    copied = contextvars.copy_context()
    context.detach(token)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(context.current).result() is None
        assert threads.submit(copied.run, context.current).result() is ORDER


def test_the_plain_correlation_has_no_tags() -> None:
    assert ORDER.tags() == {}


def test_what_an_application_may_import_stays_what_it_is_after_every_import() -> None:
    """A module of the package with the name of a function would replace it as soon as somebody imports the module."""
    modules = {module.name for module in pkgutil.iter_modules(otel_cc.__path__)}
    assert modules.isdisjoint(otel_cc.__all__)
    assert {name: type(getattr(otel_cc, name)).__name__ for name in otel_cc.__all__} == {
        "__version__": "str",
        "current_request_id": "function",
    }
