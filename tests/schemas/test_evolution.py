"""Schemas change only so that old and new processes keep reading each other, and records do not drift from them."""

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import fastavro
import msgspec
import pytest
from forebay_schemas.codec import RECORDS, history, newest
from forebay_schemas.records import Record

from .compatibility import problem_reading


@pytest.mark.parametrize("record", RECORDS)
def test_all_versions_of_a_record_read_each_other(record: type[Record]) -> None:
    for one, other in product(history(record.__name__), repeat=2):
        problem = problem_reading(one.parsed, other.parsed)
        assert problem is None, f"version {other.version} cannot read what version {one.version} wrote: {problem}"


def _changed(change: Callable[[dict[str, Any]], None]) -> tuple[Any, Any]:
    """The schema of Request as it is, and as ``change`` makes it; fields by name."""
    document = msgspec.json.decode(newest("Request").text)
    changed = copy.deepcopy(document)
    fields = {field["name"]: field for field in changed["fields"]}
    change(fields)
    changed["fields"] = list(fields.values())
    return fastavro.parse_schema(document), fastavro.parse_schema(changed)


def _add_with_default(fields: dict[str, Any]) -> None:
    fields["region"] = {"name": "region", "type": ["null", "string"], "default": None}


def _add_without_default(fields: dict[str, Any]) -> None:
    fields["region"] = {"name": "region", "type": "string"}


def _remove_required(fields: dict[str, Any]) -> None:
    del fields["tenant"]


def _rename(fields: dict[str, Any]) -> None:
    fields["tenant"]["name"] = "customer"


def _change_type(fields: dict[str, Any]) -> None:
    fields["created_ms"]["type"] = "string"


def _drop_branch(fields: dict[str, Any]) -> None:
    fields["user"] = {"name": "user", "type": "string", "default": ""}


UNKNOWN_READ_AS = {
    "CacheStatus": "bypass",
    "CachePolicy": "bypass",
    "CacheScope": "user",
    "Lane": "interactive",
    "Verdict": "down",
    "FeedbackSource": "rule",
}
"""What a reader makes of a symbol that only later writers know: the careful one."""


def _rename_symbol(fields: dict[str, Any]) -> None:
    del fields["lane"]["type"]["default"]
    fields["lane"]["type"]["symbols"][0] = "overnight"


def _change_inside(fields: dict[str, Any]) -> None:
    fields["messages"]["type"]["items"]["fields"][0]["type"] = "int"


def _add_symbol(fields: dict[str, Any]) -> None:
    fields["lane"]["type"]["symbols"].append("overnight")


def test_a_new_symbol_is_compatible_because_enums_have_a_default() -> None:
    old, new = _changed(_add_symbol)

    assert not problem_reading(old, new)
    assert not problem_reading(new, old)


def test_a_new_field_with_a_default_is_compatible() -> None:
    old, new = _changed(_add_with_default)

    assert problem_reading(old, new) is None
    assert problem_reading(new, old) is None


@pytest.mark.parametrize(
    "change",
    [_add_without_default, _remove_required, _rename, _change_type, _drop_branch, _rename_symbol, _change_inside],
)
def test_an_incompatible_change_is_noticed(change: Callable[[dict[str, Any]], None]) -> None:
    old, new = _changed(change)

    assert problem_reading(old, new) or problem_reading(new, old)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_and_its_newest_schema_say_the_same(record: type[Record]) -> None:
    """Names, order, types, defaults, and which fields are required."""
    document = msgspec.json.decode(newest(record.__name__).text)

    assert _without_docs(document) == _schema_of(record) | {"namespace": "forebay"}


@pytest.mark.parametrize("record", RECORDS)
def test_a_schema_file_says_what_the_record_says(record: type[Record]) -> None:
    document = msgspec.json.decode(newest(record.__name__).text)
    first_sentence = (record.__doc__ or "").replace("`", "").splitlines()[0]

    assert document["doc"].replace("`", "") == first_sentence


def _without_docs(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_docs(item) for key, item in value.items() if key != "doc"}
    return [_without_docs(item) for item in value] if isinstance(value, list) else value


def _schema_of(record: type[Record]) -> dict[str, Any]:
    return _avro(msgspec.inspect.type_info(record), set())


def _avro(kind: msgspec.inspect.Type, named: set[str]) -> Any:
    """The Avro type that a type of a record's field stands for; a name is spelled out where it first occurs."""
    match kind:
        case msgspec.inspect.StrType():
            return "string"
        case msgspec.inspect.BytesType():
            return "bytes"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.FloatType():
            return "double"
        case msgspec.inspect.IntType(le=bound):
            return "long" if bound is None else "int"
        case msgspec.inspect.NoneType():
            return "null"
        case msgspec.inspect.ListType(item_type=item):
            return {"type": "array", "items": _avro(item, named)}
        case msgspec.inspect.DictType(value_type=item):
            return {"type": "map", "values": _avro(item, named)}
        case msgspec.inspect.UnionType(types=branches):
            rest = [branch for branch in branches if not isinstance(branch, msgspec.inspect.NoneType)]
            return ["null", *(_avro(branch, named) for branch in rest)]
        case msgspec.inspect.EnumType(cls=cls) | msgspec.inspect.StructType(cls=cls) if cls.__name__ in named:
            return cls.__name__
        case msgspec.inspect.EnumType(cls=cls):
            named.add(cls.__name__)
            symbols = [member.value for member in cls]
            return {"type": "enum", "name": cls.__name__, "symbols": symbols, "default": UNKNOWN_READ_AS[cls.__name__]}
        case msgspec.inspect.StructType(cls=cls):
            named.add(cls.__name__)
            return {"type": "record", "name": cls.__name__, "fields": [_field(field, named) for field in kind.fields]}
    raise AssertionError(f"records use no {kind}")


def _field(field: msgspec.inspect.Field, named: set[str]) -> dict[str, Any]:
    avro = {"name": field.name, "type": _avro(field.type, named)}
    if field.required:
        return avro
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default  # pyright: ignore[reportCallIssue]
    return avro | {"default": msgspec.to_builtins(default)}
