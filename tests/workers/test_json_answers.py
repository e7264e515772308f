"""JSON that was asked for is checked, whatever the schema is like."""

import json
import socket
import time
from typing import Any

import pytest
from forebay_workers.json_answers import is_valid

OBJECT = json.dumps({"type": "json_object"})


def schema(**schema: Any) -> str:
    return json.dumps({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


PERSON = schema(
    type="object",
    properties={"name": {"type": "string"}, "born": {"type": "integer"}},
    required=["name"],
    additionalProperties=False,
)


@pytest.mark.parametrize("form", [None, json.dumps({"type": "text"})])
def test_any_text_will_do_where_no_json_is_asked_for(form: str | None) -> None:
    assert is_valid("Paris.", form)


@pytest.mark.parametrize(
    "text", ["", "Paris.", "[1]", '"text"', '{"a": 1', '{"a": NaN}', '```json\n{"a": 1}\n```', "[" * 100_000]
)
def test_text_that_is_no_json_object_is_invalid(text: str) -> None:
    assert not is_valid(text, OBJECT)


def test_any_object_will_do_without_a_schema() -> None:
    assert is_valid(' {"a": [1, null]}\n', OBJECT)


@pytest.mark.parametrize("text", ['{"name": "Ada"}', '{"name": "Ada", "born": 1815}'])
def test_what_follows_the_schema_is_valid(text: str) -> None:
    assert is_valid(text, PERSON)


@pytest.mark.parametrize("text", ["{}", '{"name": 1}', '{"name": "Ada", "age": 36}', '{"name": "Ada", "born": 1.5}'])
def test_what_does_not_is_invalid(text: str) -> None:
    assert not is_valid(text, PERSON)


def test_references_within_the_schema_are_followed() -> None:
    tree = schema(**{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}})
    assert is_valid("[[], [[]]]", tree)
    assert not is_valid("[[], [[1]]]", tree)


@pytest.mark.parametrize(
    "broken",
    [{"type": "nonsense"}, {"required": 3}, {"$ref": "#/nowhere"}, {"$ref": "#"}, {"multipleOf": "three"}],
    ids=str,
)
def test_a_schema_that_cannot_be_applied_asks_for_no_more_than_json(broken: dict[str, Any]) -> None:
    assert is_valid('{"a": 1}', schema(**broken))
    assert not is_valid("{", schema(**broken))


def test_a_reference_to_somewhere_else_is_not_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        assert is_valid("{}", schema(**{"$ref": url}))
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "items",
    [
        {"uniqueItems": True},
        {"items": {"properties": {"name": {"enum": [f"no {number}" for number in range(30_000)] + ["x"]}}}},
        {"items": {f"unknown {number}": 0 for number in range(30_000)}},
        {"items": {"properties": {f"other {number}": {} for number in range(30_000)}}},
    ],
    ids=["objects compared each with each", "a long enum", "unknown keywords", "many properties"],
)
def test_a_schema_cannot_hold_up_the_worker(items: dict[str, Any]) -> None:
    asked = schema(type="array", **items)
    text = json.dumps([{"name": "x", "number": number} for number in range(4_000)])
    began_s = time.thread_time()
    is_valid(text, asked)
    assert time.thread_time() - began_s < 2


def test_a_schema_that_means_endless_checks_ends() -> None:
    levels = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}, {"$ref": f"#/$defs/l{level + 1}"}]}
        for level in range(60)
    }
    assert is_valid("{}", schema(**{"$ref": "#/$defs/l0", "$defs": {**levels, "l60": {"type": "object"}}}))


def test_patterns_are_left_to_the_engine_because_they_may_take_for_ever() -> None:
    endless = "^(a|a)*$"
    assert is_valid(f'"{"a" * 60}!"', schema(pattern=endless))
    by_pattern = schema(patternProperties={endless: {}}, additionalProperties=False)
    assert is_valid(json.dumps({"a" * 60 + "!": 1}), by_pattern)
