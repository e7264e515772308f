"""Reads requests from lines of JSON, as `forebay send` takes them; a problem is told with its line and field."""

import gzip
import io
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from forebay_client.requests import build_request
from forebay_schemas.errors import ErrorCode, ForebayError, InvalidRequest, RecordError
from forebay_schemas.records import Request

_GZIP_MAGIC = b"\x1f\x8b"


class LineError(ForebayError):
    """A line cannot be used; the message tells its number, the field and the mend."""

    def __init__(self, number: int, problem: object) -> None:
        super().__init__(f"line {number}: {problem}")


def plain(file: BinaryIO) -> BinaryIO:
    """The file's own text, whether it is compressed or not; it need not be seekable, and is closed with the result."""
    buffered = io.BufferedReader(file)  # pyright: ignore[reportArgumentType]: any binary stream will do
    return gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == _GZIP_MAGIC else buffered  # pyright: ignore[reportReturnType]


def numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        RecordError: it is no JSON, or no object.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(ErrorCode.INVALID_REQUEST, f"is no JSON ({error}); give one object a line") from None
    if not isinstance(fields, dict):
        raise RecordError(ErrorCode.INVALID_REQUEST, 'is no object; give one, such as {"question": "..."}')
    return fields


def request_of(fields: dict[str, Any], tenant: str | None) -> tuple[Request, str | None]:
    """The request that a line's fields make, and its trace context.

    Args:
        fields: those of a request, and ``question``.
        tenant: whose request it is where the fields do not say.

    Raises:
        InvalidRequest: a field is unknown or has the wrong type.
    """
    rest = {name: value for name, value in fields.items() if name != "question"}
    question = fields.get("question")
    if question is not None and not isinstance(question, str | list):
        raise InvalidRequest("question", "is neither text nor a list of turns", "give the user's question")
    return build_request(question, rest, tenant=tenant, now_ms=time.time_ns() // 1_000_000)
