"""A program that publishes tasks on demand: each scenario runs inside one request, as in a web application."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Listener
from typing import Any

import tasks
from celery import Celery, chain, chord, group
from opentelemetry import baggage, context, propagate, trace

SCENARIOS: dict[str, Callable[..., Any]] = {}

old = Celery("old", broker=os.environ["BROKER"], backend=os.environ["BACKEND"], set_as_current=False)
old.conf.update(task_protocol=1, task_default_queue=os.environ["QUEUE"])
# An application without tasks: names only.
names = Celery("names", broker=os.environ["BROKER"], backend=os.environ["BACKEND"], set_as_current=False)
names.conf.update(task_default_queue=os.environ["QUEUE"])
nowhere = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
nowhere.conf.update(task_publish_retry=False, broker_transport_options={"max_retries": 0, "socket_connect_timeout": 1})


def scenario(function: Callable[..., Any]) -> Callable[..., Any]:
    SCENARIOS[function.__name__] = function
    return function


@scenario
def delay() -> Any:
    return tasks.one.delay().get(timeout=25)


@scenario
def countdown() -> Any:
    return tasks.one.apply_async(countdown=0.1).get(timeout=25)


@scenario
def eta() -> Any:
    return tasks.one.apply_async(eta=datetime.now(timezone.utc) + timedelta(seconds=0.1)).get(timeout=25)


@scenario
def retry() -> Any:
    return tasks.again.delay().get(timeout=25)


@scenario
def chained() -> Any:
    return chain(tasks.one.s(), tasks.two.s(), tasks.one.s())().get(timeout=25)


@scenario
def grouped() -> Any:
    return group(tasks.one.s(), tasks.two.s())().get(timeout=25)


@scenario
def chorded() -> Any:
    return chord([tasks.one.s(), tasks.one.s()])(tasks.two.s()).get(timeout=25)


@scenario
def linked() -> Any:
    return tasks.one.apply_async(link=tasks.two.s()).get(timeout=25)


@scenario
def linked_to_failure() -> Any:
    return type(tasks.fails.apply_async(link_error=tasks.on_failure.s()).get(timeout=25, propagate=False)).__name__


@scenario
def task_calling_task() -> Any:
    return tasks.parent.delay().get(timeout=25)[0]


@scenario
def replaced() -> Any:
    return tasks.replaced.delay().get(timeout=25)


@scenario
def by_name() -> Any:
    return tasks.app.send_task("one").get(timeout=25)


@scenario
def by_name_unregistered() -> Any:
    return names.send_task("one").get(timeout=25)


@scenario
def protocol_1() -> Any:
    return old.send_task("one").get(timeout=25)


@scenario
def protocol_1_retry() -> Any:
    return old.send_task("again").get(timeout=25)


@scenario
def eager() -> Any:
    return tasks.outer.apply().get()


@scenario
def always_eager() -> Any:
    tasks.app.conf.task_always_eager = True
    try:
        return tasks.parent.delay().get()[0]
    finally:
        tasks.app.conf.task_always_eager = False


@scenario
def eager_retry() -> Any:
    return tasks.again.apply().get()


@scenario
def eager_failure() -> Any:
    try:
        tasks.fails.apply(throw=True)
    except ValueError as error:
        return repr(error)


@scenario
def broker_down() -> Any:
    before = trace.get_current_span()
    try:
        nowhere.send_task("one", retry=False)
    except Exception as error:
        return {"raised": type(error).__name__, "current_span_kept": trace.get_current_span() is before}


@scenario
def bad_arguments() -> Any:
    before = trace.get_current_span()
    try:
        tasks.app.send_task("one", args=7)
    except TypeError as error:
        return {"raised": str(error), "current_span_kept": trace.get_current_span() is before}


@scenario
def with_baggage() -> Any:
    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        return tasks.again.delay().get(timeout=25)
    finally:
        context.detach(token)


@scenario
def sql() -> Any:
    return tasks.sql.delay().get(timeout=25)


@scenario
def headers() -> Any:
    return tasks.headers.delay().get(timeout=25)


@scenario
def outcome(name: str) -> Any:
    result = tasks.app.tasks[name].delay()
    return result.id


@scenario
def with_headers(headers: dict[str, Any]) -> Any:
    return tasks.again.apply_async(headers=headers).get(timeout=25)


@scenario
def elsewhere(first: str) -> Any:
    return tasks.elsewhere.apply_async((os.environ["QUEUE"],), queue=first).get(timeout=20)


@scenario
def retry_in(queue: str) -> Any:
    return tasks.again.apply_async(queue=queue).get(timeout=25)


@scenario
def many(queue: str, count: int, name: str, *args: Any) -> None:
    for _ in range(count):
        tasks.app.send_task(name, args, queue=queue)


@scenario
def send(name: str, *args: Any) -> str:
    return tasks.app.send_task(name, args).id


@scenario
def send_later(name: str, seconds: float) -> str:
    return tasks.app.send_task(name, countdown=seconds).id


@scenario
def send_expired(name: str) -> str:
    return tasks.app.send_task(name, expires=datetime.now(timezone.utc) - timedelta(seconds=1)).id


@scenario
def revoke(task_id: str, worker: str, terminate: bool, signal: str = "SIGTERM") -> None:
    """Returns when the worker knows it."""
    (answer,) = tasks.app.control.revoke(task_id, [worker], terminate=terminate, signal=signal, reply=True, timeout=25)
    assert "ok" in answer[worker], answer


@scenario
def send_raw(body: str, content_type: str, headers: dict[str, Any]) -> None:
    queue = os.environ["QUEUE"]
    with tasks.app.producer_pool.acquire() as producer:
        options = {"content_type": content_type, "content_encoding": "utf-8"}
        producer.publish(body, routing_key=queue, declare=[tasks.app.amqp.queues[queue]], headers=headers, **options)


def request(request_id: str | None, headers: dict[str, str], name: str, *args: Any) -> dict[str, Any]:
    """Run a scenario inside a request, or outside of any when ``request_id`` is None and there are no headers."""
    if request_id is None and not headers:
        result = SCENARIOS[name](*args)
        return {"result": result, "current": trace.get_current_span().get_span_context().is_valid}
    from otel_cc.context import Correlation, current, with_correlation
    from otel_cc.request_id import new_trace_id

    outside = propagate.extract(headers)
    correlation = Correlation(request_id, new_trace_id()) if request_id else None
    token = context.attach(with_correlation(correlation, outside))
    try:
        if headers:
            # A caller with a trace of its own, in an application that makes no spans.
            return {"result": SCENARIOS[name](*args)}
        with trace.get_tracer("request").start_as_current_span("request") as span:
            result = SCENARIOS[name](*args)
            kept = current() is correlation and trace.get_current_span() is span
        return {"result": result, "trace_id": f"{span.get_span_context().trace_id:032x}", "context_kept": kept}
    finally:
        context.detach(token)


def main() -> None:
    with Listener(("127.0.0.1", 0), authkey=b"driver") as listener:
        print(f"port {listener.address[1]}.", flush=True)
        with listener.accept() as connection:
            while True:
                try:
                    call = connection.recv()
                except EOFError:
                    break
                try:
                    connection.send((True, request(*call)))
                except Exception as error:
                    connection.send((False, repr(error)))
    sys.exit(0)


if __name__ == "__main__":
    main()
