"""Records to bytes and back: Avro, by default in single-object encoding.

A value begins with two marker bytes and the 8-byte fingerprint of the schema that wrote it, so it can be read
without a registry as long as that schema is in the bundled history (``schemas/avro/<record>.<version>.avsc``).
A record is written with the oldest version that holds it, so that whoever was not upgraded yet reads what uses nothing
new.
With a Schema Registry configured, ``registry.RegistryFraming`` takes the place of ``SingleObjectFraming``.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fastavro
import fastavro.schema
import msgspec

from .errors import ErrorCode, RecordError
from .records import (
    Audit,
    BatchState,
    Chunk,
    Control,
    DeadLetter,
    Event,
    Feedback,
    Record,
    Reply,
    Request,
    Result,
    Task,
)

RECORDS: tuple[type[Record], ...] = (
    Request,
    Task,
    Result,
    Reply,
    DeadLetter,
    Control,
    Event,
    Chunk,
    Feedback,
    Audit,
    BatchState,
)
"""Every record that crosses a topic as a value of its own."""

R = TypeVar("R", bound=Record)

_MARKER = b"\xc3\x01"
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one record's schema: as written (``text``) and as fastavro reads it (``parsed``)."""

    record: str
    version: int
    text: str
    parsed: Any
    fingerprint: bytes


class Framing(Protocol):
    """How a value says which schema wrote it."""

    def header(self, schema: Schema) -> bytes:
        """The bytes before the Avro body."""
        ...

    def writer_schema(self, data: bytes, record: str) -> tuple[Any, int]:
        """The parsed schema that wrote ``data``, and where its body begins.

        Raises:
            RecordError: ``not_avro`` or ``unknown_schema``.
        """
        ...


class SingleObjectFraming:
    """Avro's single-object encoding: marker, fingerprint, body."""

    def header(self, schema: Schema) -> bytes:
        return _MARKER + schema.fingerprint

    def writer_schema(self, data: bytes, record: str) -> tuple[Any, int]:
        start = len(_MARKER) + _FINGERPRINT_BYTES
        if not data.startswith(_MARKER) or len(data) < start:
            raise RecordError(
                ErrorCode.NOT_AVRO,
                f"the value of {len(data)} bytes does not begin with the marker c301 and a fingerprint;"
                f" encode it as schemas/avro/{record.lower()}.*.avsc says",
            )
        fingerprint = data[len(_MARKER) : start]
        schema = _by_fingerprint(record).get(fingerprint)
        if schema is None:
            raise RecordError(
                ErrorCode.UNKNOWN_SCHEMA,
                f"no version of {record} has the fingerprint {fingerprint.hex()};"
                " use a schema of schemas/avro, or update this side first",
            )
        return schema.parsed, start


class Codec:
    """Encodes and decodes records under one framing. Stateless and safe to share between threads."""

    def __init__(self, framing: Framing | None = None) -> None:
        self._framing = framing or SingleObjectFraming()

    def encode(self, record: Record) -> bytes:
        """Encode a record with the oldest version of its schema that holds all of it.

        Raises:
            RecordError: a field holds what its type does not allow (text for a number, a number out of range,
                a lone surrogate).
        """
        name = type(record).__name__
        out = io.BytesIO()
        try:
            values = msgspec.to_builtins(record, builtin_types=(bytes,))
            # Structs do not check what they are built with, and fastavro writes 1.5 as 1 and "ab" as ["a", "b"].
            msgspec.convert(values, type(record), builtin_types=(bytes,))
            schema = _oldest_holding(values, name)
            out.write(self._framing.header(schema))
            fastavro.schemaless_writer(out, schema.parsed, values)
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise RecordError(ErrorCode.INVALID_REQUEST, f"{name} cannot be encoded ({error})") from None
        return out.getvalue()

    def decode(self, data: bytes, record: type[R]) -> R:
        """Decode bytes written with any version of the record's schema.

        Raises:
            RecordError: ``not_avro``, ``unknown_schema`` or ``malformed``.
        """
        name = record.__name__
        writer, start = self._framing.writer_schema(data, name)
        body = io.BytesIO(data)
        body.seek(start)
        # What only lacks fields is read as it is: their defaults are the struct's too.
        resolved = all(writer is not schema.parsed for schema, _ in writable(name))
        try:
            value = fastavro.schemaless_reader(body, writer, newest(name).parsed if resolved else None)
            decoded = msgspec.convert(value, record)
        except Exception as error:  # fastavro lets through whatever its readers run into, and a job must not die of it
            what = "it ends too early" if isinstance(error, EOFError) else str(error)[:200] or type(error).__name__
            raise RecordError(ErrorCode.MALFORMED, f"the value is no {name} ({what})") from None
        if body.tell() != len(data):
            raise RecordError(
                ErrorCode.MALFORMED, f"the value is no {name} ({len(data) - body.tell()} bytes are left after its end)"
            )
        return decoded


def newest(record: str) -> Schema:
    """The schema that holds all that a record may say."""
    return history(record)[-1]


@cache
def history(record: str) -> tuple[Schema, ...]:
    """All versions of a record's schema, oldest first."""
    return tuple(sorted(_load(record), key=lambda schema: schema.version))


@cache
def writable(record: str) -> tuple[tuple[Schema, Mapping[str, Any]], ...]:
    """The versions that a record may be written with, oldest first: each with the fields that it lacks, and the
    defaults that these must hold then. One that differs from the newest in more than that is only read."""
    fields = _types(newest(record))
    raw = msgspec.json.decode(newest(record).text)["fields"]
    return tuple(
        (schema, {field["name"]: field["default"] for field in raw if field["name"] not in types})
        for schema in history(record)
        if (types := _types(schema)).items() <= fields.items()
    )


def avro_folder() -> Path:
    """The folder of the .avsc files: beside this package in a checkout, inside it when installed."""
    here = Path(__file__).parent
    inside = here / "avro"
    return inside if inside.is_dir() else here.parent / "avro"


def file_stem(record: str) -> str:
    """How a record's files begin: ``DeadLetter`` is ``dead_letter``."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in record).lstrip("_")


def _oldest_holding(values: Mapping[str, Any], record: str) -> Schema:
    return next(
        schema
        for schema, lacks in writable(record)
        if all(values[field] == default for field, default in lacks.items())
    )


def _types(schema: Schema) -> dict[str, bytes]:
    """By field, its type without documentation."""
    form = msgspec.json.decode(fastavro.schema.to_parsing_canonical_form(msgspec.json.decode(schema.text)))
    return {field["name"]: msgspec.json.encode(field["type"]) for field in form["fields"]}


@cache
def _by_fingerprint(record: str) -> dict[bytes, Schema]:
    return {schema.fingerprint: schema for schema in history(record)}


def _load(record: str) -> Iterator[Schema]:
    for path in avro_folder().glob(f"{file_stem(record)}.*.avsc"):
        text = path.read_text("utf-8")
        raw = msgspec.json.decode(text)
        canonical = fastavro.schema.to_parsing_canonical_form(raw)
        fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        yield Schema(record, int(path.suffixes[-2][1:]), text, fastavro.parse_schema(raw), fingerprint)
