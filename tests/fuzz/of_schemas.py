"""Records as bytes, and what makes requests equal."""

import random
from contextlib import ExitStack

from forebay_schemas.canonical import canonical_text
from forebay_schemas.canonical import digests as digests_of
from forebay_schemas.codec import RECORDS, Codec, SingleObjectFraming, history
from forebay_schemas.config import load_config
from forebay_schemas.errors import InvalidRequest, RecordError
from forebay_schemas.validation import validate

from tests.builders import make_request, system
from tests.schemas.golden_files import EXAMPLES
from tests.schemas.test_digests import test_the_digest_is_equal_exactly_when_what_counts_is as equal_exactly_when

from .target import Take

_HEADERS = [(record, SingleObjectFraming().header(schema)) for record in RECORDS for schema in history(record.__name__)]
"""Each record with what its values begin with, for every version of its schema."""


def records(_: ExitStack) -> Take:
    """The body of a value; the first byte chooses record and schema. What decodes must survive the way back."""
    codec = Codec()

    def take(data: bytes) -> bool:
        record, header = _HEADERS[data[0] % len(_HEADERS) if data else 0]
        try:
            decoded = codec.decode(header + data[1:], record)
        except RecordError:
            return False
        value = codec.encode(decoded)
        assert codec.encode(codec.decode(value, record)) == value
        return True

    return take


def records_seeds() -> list[bytes]:
    values = [(type(example), Codec().encode(example)) for example in EXAMPLES]
    length = len(_HEADERS[0][1])
    return [bytes([_HEADERS.index((record, value[:length]))]) + value[length:] for record, value in values]


def texts(_: ExitStack) -> Take:
    """A question and a system prompt, with a NUL between: digests are equal where canonical forms are."""
    config = load_config()

    def take(data: bytes) -> bool:
        question, _, prompt = data.decode("utf-8", "replace").partition("\0")
        turns = [system(prompt)] if prompt else []
        asked = make_request(question, static_messages=turns)
        try:
            validate(asked, config)
        except InvalidRequest:
            return False
        canonical = canonical_text(question)
        assert canonical_text(canonical) == canonical
        assert digests_of(make_request(canonical, static_messages=turns)) == digests_of(asked)
        swapped = digests_of(make_request(prompt, static_messages=[system(question)]))
        assert (swapped.exact == digests_of(asked).exact) == (bool(prompt) and canonical == canonical_text(prompt))
        return True

    return take


def texts_seeds() -> list[bytes]:
    return [
        b"Is it   open?\r\n\r\n\n\tToday \0Be brief.",
        b"```py  \nx  = 1\n```  \n\n\nb  c\0~~~\nx  = 1\n```\ny  = 1\n~~~",
        "Cafe\u0301 `a  b`\n| a\t\tb |\0Caf\u00e9 `a  b`\n| a\t\tb |".encode(),
    ]


def digests(_: ExitStack) -> Take:
    """Two requests that differ in some fields, made of the bytes by hypothesis."""
    feed = equal_exactly_when.hypothesis.fuzz_one_input  # pyright: ignore[reportFunctionMemberAccess]: given adds it
    return lambda data: feed(data) is not None


def digests_seeds() -> list[bytes]:
    return [random.Random(0).randbytes(2_000)]
