"""Whether an answer is the JSON that its request asks for."""

import json
import time
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import create
from referencing import Registry

BUDGET_S = 0.1
"""Processor time for one answer, some 50 times what a long one takes: meanwhile everybody else's generations wait. The
schema comes with the request, and references, or long lists, can make a short one mean any amount of work."""


class _TooMuch(Exception):
    """The schema asks for more work than one answer is worth."""


def is_valid(text: str, response_format: str | None) -> bool:
    """Whether an answer has the form that OpenAI's ``response_format``, as JSON text, asks for.

    A schema that cannot be applied (broken, endless, or in need of the network) asks for no more than JSON.
    """
    form: dict[str, Any] = {"type": "text"} if response_format is None else json.loads(response_format)
    if form["type"] == "text":
        return True
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    if form["type"] == "json_object":
        return isinstance(value, dict)
    return _fits(value, form["json_schema"]["schema"])


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    end_s = time.thread_time() + BUDGET_S

    def applicable(schema: Any) -> Iterable[tuple[str, Any]]:
        """The keywords of a schema; jsonschema asks for them wherever it goes on to one."""
        if time.thread_time() > end_s:
            raise _TooMuch
        return schema.items()

    original = Draft202012Validator
    checker = create(
        original.META_SCHEMA, _CHECKS, type_checker=original.TYPE_CHECKER, applicable_validators=applicable
    )
    try:
        # An empty registry: a reference to somewhere else is not fetched.
        return checker(schema, registry=Registry()).is_valid(value)
    except Exception:  # a schema is the asker's: jsonschema raises what it likes at one that is broken
        return True


def _additional_properties(validator: Any, argument: Any, instance: Any, schema: dict[str, Any]) -> Any:
    if "patternProperties" in schema:
        return ()
    return Draft202012Validator.VALIDATORS["additionalProperties"](validator, argument, instance, schema)


# Left to the engine, which has followed the schema where it can. One check of these cannot be stopped in the middle: a
# pattern may take a time that is exponential in the length of the text, and unique objects are compared each with each.
_UNCHECKED = ("pattern", "patternProperties", "uniqueItems", "unevaluatedProperties", "unevaluatedItems")
_CHECKS = {name: check for name, check in Draft202012Validator.VALIDATORS.items() if name not in _UNCHECKED}
_CHECKS["additionalProperties"] = _additional_properties


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
