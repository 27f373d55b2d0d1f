"""The ID across hops that know nothing of us, or of spans."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.celery.conftest import Driver, Play, Stage

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
UUID = "0b6d5c5f-6f6c-4d0e-9c2b-1a7f3e8d9c10"


def run_of(play: Play, trace_id: str, count: int = 1) -> list[str]:
    return sorted(span.name for span in play.stage.trace(trace_id, count))


def test_without_an_instrumented_producer_the_worker_starts_the_trace_and_makes_the_id(
    play: Play, stranger: Driver
) -> None:
    found = stranger("delay")["result"]
    assert found["request_id"] == found["trace_id"] == found["root_trace_id"]
    play.stage.check(found["trace_id"], "run one")


def test_two_messages_without_an_id_get_two(stranger: Driver) -> None:
    assert stranger("delay")["result"]["request_id"] != stranger("delay")["result"]["request_id"]


def test_outside_of_a_request_the_trace_id_of_the_publishing_span_is_the_id(play: Play) -> None:
    answer = play.driver("delay")
    found = answer["result"]
    assert found["request_id"] == found["trace_id"] == found["root_trace_id"]
    assert not answer["current"]
    play.stage.check(
        found["trace_id"],
        """
        publish one
          run one
        """,
    )


def test_a_uuid_in_the_message_is_the_trace_id(play: Play, stranger: Driver) -> None:
    found = stranger("with_headers", {"otel_cc_request_id": UUID})["result"]
    assert found["request_id"] == UUID
    assert found["trace_id"] == found["root_trace_id"] == UUID.replace("-", "")


def test_the_header_of_asgi_correlation_id_is_accepted(stranger: Driver) -> None:
    found = stranger("with_headers", {"CORRELATION_ID": "order-42"})["result"]
    assert found["request_id"] == "order-42"


def test_ours_wins_over_the_header_of_asgi_correlation_id(stranger: Driver) -> None:
    found = stranger("with_headers", {"CORRELATION_ID": "order-41", "otel_cc_request_id": "order-42"})["result"]
    assert found["request_id"] == "order-42"


def test_without_any_id_the_incoming_trace_id_is_the_id(stranger: Driver) -> None:
    found = stranger("with_headers", {"traceparent": SAMPLED})["result"]
    assert (found["request_id"], found["trace_id"]) == (TRACE_ID, TRACE_ID)


def test_an_unsampled_trace_keeps_the_id_and_makes_no_spans(play: Play, stranger: Driver) -> None:
    trace_id = TRACE_ID[::-1]
    headers = {"traceparent": f"00-{trace_id}-{SPAN_ID}-00", "otel_cc_request_id": "order-42", "baggage": "tenant=7"}
    found = stranger("with_headers", headers)["result"]
    assert (found["request_id"], found["trace_id"], found["baggage"]) == ("order-42", trace_id, {"tenant": "7"})
    assert play.stage.trace(trace_id, 1, timeout=0.5) == []


def test_a_retry_through_a_worker_without_us_keeps_trace_and_id(play: Play) -> None:
    middle = play.stage.worker("--pool", "solo", "-Q", "middle", instrument=False)
    answer = play.driver("elsewhere", "middle", request_id="order-42")
    assert answer["result"]["request_id"] == "order-42"
    play.stage.check(
        answer["trace_id"],
        """
        request
          publish elsewhere
            run elsewhere
        """,
    )
    assert middle.stop() == 0


@pytest.fixture(scope="module")
def bare(stages: Callable[..., Stage]) -> Play:
    """Driver and worker with our carriers, in which nobody makes the spans of Celery."""
    stage = stages("valkey", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="celery,redis")
    return stage.play("--pool", "threads", "--concurrency", "2")


@pytest.mark.parametrize("scenario", ["retry", "chained", "protocol_1_retry", "by_name_unregistered"])
@pytest.mark.parametrize("traceparent", [SAMPLED, UNSAMPLED])
def test_without_producers_id_trace_and_baggage_pass_on_unchanged(bare: Play, scenario: str, traceparent: str) -> None:
    headers = {"traceparent": traceparent, "tracestate": "vendor=x", "baggage": "tenant=7"}
    found = bare.driver(scenario, request_id="order-42", headers=headers)["result"]
    assert (found["request_id"], found["trace_id"], found["baggage"]) == ("order-42", TRACE_ID, {"tenant": "7"})
    assert bare.stage.sink.spans() == []


def test_without_producers_the_message_has_the_callers_own_span(bare: Play) -> None:
    headers = {"traceparent": SAMPLED, "tracestate": "vendor=x"}
    sent = bare.driver("headers", request_id="order-42", headers=headers)["result"]
    wanted = {**headers, "otel_cc_request_id": "order-42"}
    assert {key: sent.get(key) for key in wanted} == wanted


def test_a_free_form_id_without_producers_still_passes_on(bare: Play) -> None:
    answer = bare.driver("chained", request_id="order-42")
    assert answer["result"]["request_id"] == "order-42"


def test_with_the_headers_switched_off_nothing_is_written_into_messages(play: Play) -> None:
    silent = play.stage.driver(OTEL_CC_CELERY_HEADERS_ENABLED="false")
    sent = silent("headers", request_id="order-42")["result"]
    assert not {"otel_cc_request_id", "traceparent", "x-request-id", "baggage"} & set(sent)
    answer = silent("delay", request_id="order-42")
    assert answer["result"]["request_id"] == answer["result"]["trace_id"] != answer["trace_id"]
