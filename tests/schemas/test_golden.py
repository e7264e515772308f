"""Every schema version ever published stays readable, and those still written are so byte for byte."""

import msgspec
import pytest
from forebay_schemas.codec import RECORDS, Codec, avro_folder, newest, writable
from forebay_schemas.records import Record

from .golden_files import EXAMPLES, bytes_file, published, record_file, sha256, versions

_ADD = "run `python -m tests.schemas.golden_files`"


def _golden(record: type[Record], version: int) -> tuple[bytes, Record]:
    paths = bytes_file(record.__name__, version), record_file(record.__name__, version)
    assert all(path.exists() for path in paths), f"{record.__name__}.{version} has no golden files: {_ADD}"
    return bytes.fromhex(paths[0].read_text()), msgspec.json.decode(paths[1].read_bytes(), type=record)


@pytest.mark.parametrize(("record", "version"), versions())
def test_bytes_of_every_version_are_read_as_they_were_meant(record: type[Record], version: int) -> None:
    data, expected = _golden(record, version)

    assert Codec().decode(data, record) == expected


@pytest.mark.parametrize(
    ("record", "version"),
    [(record, schema.version) for record in RECORDS for schema, _ in writable(record.__name__)],
)
def test_what_a_version_holds_is_written_with_it_byte_for_byte_as_before(record: type[Record], version: int) -> None:
    """So processes of the release that had it read what uses nothing newer."""
    data, expected = _golden(record, version)

    assert Codec().encode(expected).hex() == data.hex()


def test_what_differs_in_more_than_its_fields_is_read_only() -> None:
    written = {record.__name__: [schema.version for schema, _ in writable(record.__name__)] for record in RECORDS}

    assert written["Task"] == [1, 2, 3]
    assert written["Reply"] == [2, 3, 4]  # in the first one, times and tokens had fewer fields


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_the_newest_golden_record_shows_every_field(example: Record) -> None:
    _, golden = _golden(type(example), newest(type(example).__name__).version)

    assert golden == example
    defaults = {field.name: field.default for field in msgspec.structs.fields(example) if not field.required}
    hidden = [name for name, default in defaults.items() if getattr(golden, name) in (default, [], {})]
    assert not hidden, f"give these fields another value than the default in golden_files.EXAMPLES: {hidden}"


def test_published_schema_files_do_not_change() -> None:
    changed = [name for name, digest in published().items() if sha256(avro_folder() / name) != digest]

    assert not changed, (
        f"{', '.join(changed)} changed after publication, and values written with the old one are out there;"
        " restore the file and add the change as <record>.<next version>.avsc"
    )


def test_every_schema_file_is_recorded_as_published() -> None:
    files = {path.name for path in avro_folder().glob("*.avsc")}

    assert files == published().keys(), _ADD


@pytest.mark.parametrize("record", RECORDS)
def test_versions_count_up_from_one_without_gaps(record: type[Record]) -> None:
    found = [version for kind, version in versions() if kind is record]

    assert found == list(range(1, len(found) + 1))
