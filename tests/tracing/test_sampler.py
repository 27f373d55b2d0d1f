"""Ratio sampling that is right for trace IDs that are UUIDs."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from otel_cc import request_id
from otel_cc.tracing import sampler

IDS = 20_000


def uuid4(source: random.Random, _: int) -> str:
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def uuid7(source: random.Random, number: int) -> str:
    """As a service makes them that gets a thousand requests a second: the upper half is a clock."""
    milliseconds = 1_790_000_000_000 + number
    bits = milliseconds << 80 | 0x7 << 76 | source.getrandbits(12) << 64 | 0x2 << 62 | source.getrandbits(62)
    return str(uuid.UUID(int=bits))


def random_hex(source: random.Random, _: int) -> str:
    return f"{source.getrandbits(128):032x}"


def parent(flags: int, state: TraceState | None = None, remote: bool = True) -> Context:
    """A context with a parent span in it."""
    span = SpanContext(0xA, 0xB, remote, TraceFlags(flags), state)
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())


def decide(chosen: Sampler, trace_id: int, context: Context | None = None) -> SamplingResult:
    return chosen.should_sample(context or Context(), trace_id, "GET /orders", SpanKind.SERVER, {"a": 1}, ())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("make", [uuid4, uuid7, random_hex])
def test_the_share_is_kept_for_every_kind_of_id(make: Callable[[random.Random, int], str], share: float) -> None:
    source = random.Random(f"{make.__name__} {share}")
    chosen = sampler.ratio(share)
    kept = 0
    for number in range(IDS):
        trace_id = request_id.trace_id_of(make(source, number)) or request_id.new_trace_id()
        kept += decide(chosen, trace_id).decision is Decision.RECORD_AND_SAMPLE
    assert abs(kept - IDS * share) <= 3 * math.sqrt(IDS * share * (1 - share))


@pytest.mark.parametrize(("share", "decision"), [(0, Decision.DROP), (1, Decision.RECORD_AND_SAMPLE)])
@pytest.mark.parametrize("trace_id", [1, 2**56 - 1, 2**56, 2**64 - 1, 2**128 - 1])
def test_none_is_none_and_all_is_all(share: float, decision: Decision, trace_id: int) -> None:
    assert decide(sampler.ratio(share), trace_id).decision is decision


@given(st.integers(1, 2**128 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_trace_kept_at_a_low_ratio_is_kept_at_every_higher_one(trace_id: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if decide(sampler.ratio(low), trace_id).decision.is_sampled():
        assert decide(sampler.ratio(high), trace_id).decision.is_sampled()


@given(st.integers(0, 2**72 - 1), st.integers(1, 2**56 - 1), st.floats(0, 1))
def test_only_the_random_bits_count(upper: int, lower: int, share: float) -> None:
    chosen = sampler.ratio(share)
    assert decide(chosen, upper << 56 | lower).decision is decide(chosen, lower).decision


@pytest.mark.parametrize("factory", [sampler.ratio, sampler.parent_based_ratio])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_tracestate_is_kept(factory: Callable[[float], Sampler], share: float) -> None:
    state = TraceState([("vendor", "x"), ("ot", "th:8")])
    for flags in (TraceFlags.DEFAULT, TraceFlags.SAMPLED):
        assert decide(factory(share), 1, parent(flags, state)).trace_state == state


@pytest.mark.parametrize("remote", [True, False])
def test_the_decision_of_a_parent_is_respected(remote: bool) -> None:
    none, everything = sampler.parent_based_ratio(0.0), sampler.parent_based_ratio(1.0)
    sampled, dropped = parent(TraceFlags.SAMPLED, remote=remote), parent(TraceFlags.DEFAULT, remote=remote)
    assert decide(none, 1, sampled).decision is Decision.RECORD_AND_SAMPLE
    assert decide(everything, 1, dropped).decision is Decision.DROP
    assert decide(none, 1).decision is Decision.DROP
    assert decide(everything, 1).decision is Decision.RECORD_AND_SAMPLE


def test_without_parent_based_the_ratio_alone_decides() -> None:
    assert decide(sampler.ratio(0.0), 1, parent(TraceFlags.SAMPLED)).decision is Decision.DROP
    assert decide(sampler.ratio(1.0), 1, parent(TraceFlags.DEFAULT)).decision is Decision.RECORD_AND_SAMPLE


def test_the_attributes_of_a_kept_span_stay_and_a_dropped_one_has_none() -> None:
    assert decide(sampler.ratio(1.0), 1).attributes == {"a": 1}
    assert not decide(sampler.ratio(0.0), 1).attributes


@pytest.mark.parametrize(
    ("argument", "share"),
    [(None, 1.0), ("", 1.0), ("0.25", 0.25), (" 0.25 ", 0.25), (0.25, 0.25), ("0", 0.0), (0, 0.0), (1, 1.0)],
)
def test_the_argument_is_what_the_environment_gives(argument: str | float | None, share: float) -> None:
    assert sampler.ratio(argument).get_description() == f"OtelCcRatio{{{share}}}"
    assert f"OtelCcRatio{{{share}}}" in sampler.parent_based_ratio(argument).get_description()


@pytest.mark.parametrize("argument", ["lots", "-0.1", "1.1", "nan", "inf", "0,5", "50%", -1, 7.5])
def test_an_argument_that_is_no_ratio_is_one_log_line_and_samples_all(
    argument: str | float, caplog: pytest.LogCaptureFixture
) -> None:
    assert decide(sampler.ratio(argument), 1).decision is Decision.RECORD_AND_SAMPLE
    assert [record.getMessage() for record in caplog.records] == [
        f"OTEL_TRACES_SAMPLER_ARG={argument!r} is not a ratio, 1.0 is used: write a number between 0 and 1."
    ]


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="the sampling ratio must be between 0 and 1, not "):
        sampler.RatioSampler(share)
