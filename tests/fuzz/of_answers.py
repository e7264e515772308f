"""Answers that are to follow a schema."""

import json
from contextlib import ExitStack

from forebay_schemas.config import load_config
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.validation import validate
from forebay_workers.json_answers import is_valid

from tests.builders import make_request

from .target import Take


def schemas(_: ExitStack) -> Take:
    """A schema and an answer, with a NUL between."""
    config = load_config()

    def take(data: bytes) -> bool:
        schema, _, answer = data.decode("utf-8", "replace").partition("\0")
        form = '{"type": "json_schema", "json_schema": {"name": "x", "schema": ' + schema + "}}"
        try:
            validate(make_request(response_format=form), config)
        except InvalidRequest:
            return False
        return is_valid(answer, form)

    return take


def schemas_seeds() -> list[bytes]:
    tree = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    person = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": "^(a|a)*$"}, "born": {"type": "integer", "multipleOf": 2}},
        "required": ["name"],
        "additionalProperties": False,
        "anyOf": [{"minProperties": 1}, {"not": {"const": {}}}],
    }
    pairs = [(tree, [[], [[]]]), (person, {"name": "aaaa!", "born": 2}), ({"enum": [1, "a"]}, "a")]
    return [f"{json.dumps(schema)}\0{json.dumps(answer)}".encode() for schema, answer in pairs]
