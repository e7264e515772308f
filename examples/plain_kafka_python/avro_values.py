"""Values in Avro's single-object encoding: two marker bytes, the fingerprint of their schema, the record."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

_MARKER = b"\xc3\x01"
_BODY = len(_MARKER) + 8


class AvroValues:
    """Reads all versions of one kind of record, and writes the newest.

    Args:
        folder: of the .avsc files, as `forebay asyncapi` writes them.
        record: how their names begin: ``reply`` for reply.1.avsc, reply.2.avsc, ...
    """

    def __init__(self, folder: Path, record: str) -> None:
        files = sorted(folder.glob(f"{record}.*.avsc"), key=lambda file: int(file.suffixes[0][1:]))
        if not files:
            raise FileNotFoundError(f"there is no {record}.*.avsc in {folder}")
        self._versions = {}
        for file in files:
            schema = json.loads(file.read_text("utf-8"))
            self._newest = fastavro.parse_schema(schema)
            self._header = _MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
            self._versions[self._header] = self._newest

    def decode(self, value: bytes) -> Any:
        """A record, with the defaults of what its writer did not know yet.

        Raises:
            LookupError: no file has the schema that wrote it.
        """
        writer = self._versions.get(value[:_BODY])
        if writer is None:
            raise LookupError(
                f"no schema for a value that begins with {value[:_BODY].hex()}; get the newest .avsc files"
            )
        return fastavro.schemaless_reader(io.BytesIO(value[_BODY:]), writer, self._newest)

    def encode(self, record: dict[str, Any]) -> bytes:
        """A value; fields that the record lacks get their defaults."""
        value = io.BytesIO()
        value.write(self._header)
        fastavro.schemaless_writer(value, self._newest, record)
        return value.getvalue()
