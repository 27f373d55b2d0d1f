"""The rules of the request ID: the one place where an untrusted header becomes an ID."""

from __future__ import annotations

import string
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_cc import request_id

UUID4 = "6f9619ff-8b86-4011-b42d-00cf4fc964ff"
UUID7 = "018f3c1e-7b2a-7c4d-9e5f-0a1b2c3d4e5f"
ALLOWED = frozenset(string.ascii_letters + string.digits + "._~:/+=@-")

# Everything that can stand in a header, a message or a baggage entry, lone surrogates included.
hostile_text = st.text(st.characters(exclude_categories=()), max_size=300)
anything = st.one_of(
    hostile_text,
    st.binary(max_size=300),
    st.none(),
    st.integers(),
    st.floats(),
    st.lists(hostile_text),
    st.dictionaries(hostile_text, hostile_text),
)
accepted_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~:/+=@-]{0,127}", fullmatch=True).filter(str.isascii)


@pytest.mark.parametrize(
    "value",
    [
        UUID4,
        UUID7,
        UUID4.upper(),
        "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c10",
        "order-42",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "Root=1-5759e988-bd862e3fe1be46a994272793",
        "a",
        "x" * 128,
        "user@host:8080/path+more=1~2",
    ],
)
def test_an_acceptable_id_is_taken_as_it_is(value: str) -> None:
    assert request_id.accept(value) == value
    assert request_id.accept(value.encode()) == value


def test_blanks_around_an_id_do_not_belong_to_it() -> None:
    assert request_id.accept(" \torder-42\t ") == "order-42"


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-order",
        "order 42",
        "order\n42",
        "order-42\r\nSet-Cookie: a=b",
        "order-42\n",
        "order\0",
        "o'; DROP TABLE orders; --",
        "*/ SELECT 1 /*",
        "order%27",
        "${jndi:ldap://x}",
        "<script>",
        "ordér",
        "\u0661\u0662",
        "\ud800",
        "x" * 129,
        "x" * 10_000,
        "{6f9619ff-8b86-4011-b42d-00cf4fc964ff}",
        b"\xff\xfe",
        b"",
        None,
        42,
        ["order-42"],
        {"id": "order-42"},
        bytearray(b"order-42"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_anything_else_is_refused(value: object) -> None:
    assert request_id.accept(value) is None


@given(anything)
@example("order-42\n")
@example("a" * 128 + "\n")
def test_what_is_accepted_is_harmless_everywhere(value: object) -> None:
    found = request_id.accept(value)
    if found is not None:
        assert 1 <= len(found) <= request_id.MAX_LENGTH
        assert ALLOWED.issuperset(found)
        assert request_id.accept(found) == found
        assert request_id.accept(found.encode("ascii")) == found


@given(st.uuids(version=4))
def test_a_uuid4_is_the_trace_id_bit_for_bit(value: uuid.UUID) -> None:
    assert request_id.trace_id_of(str(value)) == value.int
    assert request_id.trace_id_of(str(value).upper()) == value.int


@given(st.integers(0, 2**128 - 1))
def test_a_uuid7_is_the_trace_id_bit_for_bit(bits: int) -> None:
    value = uuid.UUID(int=bits & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)
    assert request_id.trace_id_of(str(value)) == value.int


@pytest.mark.parametrize(
    "value",
    [
        "order-42",
        "6f9619ff-8b86-1011-b42d-00cf4fc964ff",  # version 1: a clock and a network card
        "6f9619ff-8b86-5011-b42d-00cf4fc964ff",  # version 5: a hash of a name
        "6f9619ff-8b86-4011-742d-00cf4fc964ff",  # another variant
        "6f9619ff8b86-4011-b42d-00cf4fc964ff-",
        "00000000-0000-0000-0000-000000000000",
        "00000000000000000000000000000000",
        "00000000000000000000000000000042",
        "11112222333344445555666677771111",
        "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c1",
        "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c101",
        "0b6d5c5f6f6c4d0e9c2b1a7f3e8d9c1g",
    ],
)
def test_an_id_that_is_not_unique_by_construction_is_no_trace_id(value: str) -> None:
    assert request_id.accept(value) == value or value.endswith("-")
    assert request_id.trace_id_of(value) is None


@given(accepted_ids)
def test_a_trace_id_is_valid_or_absent(value: str) -> None:
    trace_id = request_id.trace_id_of(value)
    assert trace_id is None or 0 < trace_id < 2**128


def test_a_new_trace_id_is_a_uuid4_and_new() -> None:
    made = [request_id.new_trace_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {uuid.UUID(int=trace_id).version for trace_id in made} == {4}
    assert {uuid.UUID(int=trace_id).variant for trace_id in made} == {uuid.RFC_4122}


@given(st.integers(1, 2**128 - 1))
def test_the_id_made_from_a_trace_id_is_what_grafana_shows(trace_id: int) -> None:
    made = request_id.from_trace_id(trace_id)
    assert len(made) == 32
    assert int(made, 16) == trace_id
    assert request_id.accept(made) == made


def test_an_id_that_we_made_leads_back_to_its_trace() -> None:
    """A service behind us gets our ID in X-Request-ID and must end up in the same trace."""
    for _ in range(1000):
        trace_id = request_id.new_trace_id()
        assert request_id.trace_id_of(request_id.from_trace_id(trace_id)) == trace_id
