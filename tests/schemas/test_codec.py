"""Any record survives the way over a topic, and no bytes, however hostile, do more than raise a RecordError."""

import io
import math
import time
import tracemalloc

import fastavro
import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from forebay_schemas.codec import RECORDS, Codec, history, newest
from forebay_schemas.errors import ErrorCode, RecordError
from forebay_schemas.records import DeadLetter, Lane, Message, Record, Reply, Request, Usage
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_reply, make_request, user

from .golden_files import EXAMPLES
from .strategies import records

CODEC = Codec()
HEADER = CODEC.encode(make_request())[:10]


def refusal(data: bytes, record: type[Record] = Request) -> RecordError:
    with pytest.raises(RecordError) as caught:
        CODEC.decode(data, record)
    return caught.value


def outcome(data: bytes) -> RecordError | None:
    try:
        CODEC.decode(data, Request)
    except RecordError as error:
        return error
    return None


def varint(number: int) -> bytes:
    """Avro's long: zigzag, seven bits a byte."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


@given(st.one_of([records(record) for record in RECORDS]))
def test_any_record_comes_back_equal(record: Record) -> None:
    assert CODEC.decode(CODEC.encode(record), type(record)) == record


def test_a_value_begins_with_the_marker_and_the_rabin_fingerprint_of_its_schema() -> None:
    rabin = fingerprint(to_parsing_canonical_form(history("Request")[0].parsed), "CRC-64-AVRO")

    assert CODEC.encode(make_request()).startswith(b"\xc3\x01" + bytes.fromhex(rabin))


@pytest.mark.parametrize("data", [b"", b"\xc3", b"\xc3\x01" + b"\0" * 7, b'{"request_id": "r"}', b"\0" * 100])
def test_what_has_no_marker_and_fingerprint_is_not_avro(data: bytes) -> None:
    error = refusal(data)

    assert error.code is ErrorCode.NOT_AVRO
    assert "c301" in str(error)
    assert "request.*.avsc" in str(error)


def test_an_unknown_fingerprint_is_named() -> None:
    error = refusal(b"\xc3\x01" + bytes(range(8)) + b"body")

    assert error.code is ErrorCode.UNKNOWN_SCHEMA
    assert "0001020304050607" in str(error)


def test_another_records_schema_is_unknown() -> None:
    assert refusal(CODEC.encode(make_reply())).code is ErrorCode.UNKNOWN_SCHEMA


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_value_cut_anywhere_is_refused(example: Record) -> None:
    data = CODEC.encode(example)

    for length in range(len(data)):
        expected = ErrorCode.NOT_AVRO if length < 10 else ErrorCode.MALFORMED
        assert refusal(data[:length], type(example)).code is expected


def test_bytes_after_the_end_are_refused() -> None:
    error = refusal(CODEC.encode(make_request()) + b"\0\0")

    assert error.code is ErrorCode.MALFORMED
    assert "2 bytes are left" in str(error)


def test_text_that_is_no_utf8_is_refused() -> None:
    data = CODEC.encode(make_request("aaaa")).replace(b"aaaa", b"aa\xff\xfe")

    assert refusal(data).code is ErrorCode.MALFORMED


_BEFORE_MESSAGES = varint(1) + b"r" + varint(1) + b"t" + varint(0)
_HUGE = (-1, -10, 2**30, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))


@pytest.mark.parametrize(
    "body",
    [
        *(varint(length) + b"abc" for length in _HUGE),
        *(_BEFORE_MESSAGES + varint(count) + varint(4) + b"user" for count in _HUGE),
        *(_BEFORE_MESSAGES + varint(-5) + varint(size) + varint(4) + b"user" for size in _HUGE),
        _BEFORE_MESSAGES + varint(1) + varint(4) + b"user" + varint(7),
        b"\xff" * 100_000,
    ],
    ids=lambda body: body[:24].hex(),
)
def test_lengths_that_promise_too_much_cost_neither_memory_nor_time(body: bytes) -> None:
    data = HEADER + body
    tracemalloc.start()
    started = time.process_time()
    try:
        error = refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert error.code is ErrorCode.MALFORMED
    assert time.process_time() - started < 1
    assert peak < 4 * len(data) + 1_000_000


@given(st.data())
def test_flipped_bytes_decode_or_are_refused(data: st.DataObject) -> None:
    value = bytearray(CODEC.encode(EXAMPLES[0]))
    for position in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=4)):
        value[position] = data.draw(st.integers(0, 255))

    error = outcome(bytes(value))
    assert error is None or len(str(error)) < 500


@given(st.binary(max_size=200))
def test_random_bytes_after_a_good_header_decode_or_are_refused(body: bytes) -> None:
    error = outcome(HEADER + body)
    assert error is None or error.code is ErrorCode.MALFORMED


def test_a_number_above_its_schemas_int_is_refused_on_both_ways() -> None:
    too_many = make_reply(usage=Usage(prompt_tokens=2**31))
    with pytest.raises(RecordError, match=r"usage\.prompt_tokens"):
        CODEC.encode(too_many)

    sloppy = io.BytesIO()  # fastavro itself writes it, and so may encoders elsewhere
    sloppy.write(CODEC.encode(make_reply())[:10])
    fastavro.schemaless_writer(sloppy, newest("Reply").parsed, msgspec.to_builtins(make_reply(hops=2**31)))
    assert "hops" in str(refusal(sloppy.getvalue(), Reply))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_id", None),
        ("request_id", 5),
        ("tenant", b"acme"),
        ("created_ms", 1.5),
        ("created_ms", True),
        ("created_ms", 2**63),
        ("created_ms", "now"),
        ("max_tokens", 2**31),
        ("seed", 2**63),
        ("temperature", "hot"),
        ("temperature", 10**400),
        ("top_p", True),
        ("stop", "END"),
        ("lane", "overnight"),
        ("cache", None),
        ("messages", None),
        ("messages", ["hello"]),
        ("metadata", {"row": 5}),
        ("metadata", {5: "row"}),
        ("metadata", {"row": object()}),
    ],
)
def test_a_field_of_a_wrong_type_is_refused_before_it_is_written(field: str, value: object) -> None:
    with pytest.raises(RecordError) as caught:
        CODEC.encode(make_request(**{field: value}))

    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert "Request cannot be encoded" in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"user": "\ud800"}, {"messages": [user("a\udfffb")]}, {"metadata": {"\ud800": ""}}, {"stop": ["\ud800"]}]
)
def test_a_lone_surrogate_is_refused_before_it_is_written(fields: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="surrogate"):
        CODEC.encode(make_request(**fields))


def test_text_that_is_not_bytes_is_refused_where_bytes_belong() -> None:
    letter = next(example for example in EXAMPLES if isinstance(example, DeadLetter))

    for value in ("text", bytearray(b"bytes"), None):
        with pytest.raises(RecordError):
            CODEC.encode(msgspec.structs.replace(letter, value=value))


def test_infinity_and_zero_bytes_survive() -> None:
    request = make_request("a\0b", temperature=math.inf, lane=Lane.BATCH, static_messages=[Message(role="\0")])

    assert CODEC.decode(CODEC.encode(request), Request) == request
