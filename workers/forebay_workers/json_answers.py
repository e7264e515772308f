"""Whether an answer is the JSON that its request asks for."""

import json
from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry

MAX_CHECKS = 20_000
"""Of keywords, for one answer: some 0.2 s. References can make a short schema mean any number of them."""

# The schema comes with the request, and checking must not hold up everybody else's generations: a pattern may take
# a time that is exponential in the length of the text. The engine has followed them where it can.
_UNCHECKED = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems")


class _TooMuch(Exception):
    """The schema asks for more checks than one answer is worth."""


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
    left = MAX_CHECKS

    def bounded(check: Callable[..., Any]) -> Callable[..., Any]:
        def within(validator: Any, argument: Any, instance: Any, schema: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooMuch
            return check(validator, argument, instance, schema)

        return within

    checks = {name: bounded(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    checks |= dict.fromkeys(_UNCHECKED, _unchecked)
    checks["additionalProperties"] = bounded(_additional_properties)
    try:
        # An empty registry: a reference to somewhere else is not fetched.
        return extend(Draft202012Validator, checks)(schema, registry=Registry()).is_valid(value)
    except Exception:  # a schema is the asker's: jsonschema raises what it likes at one that is broken
        return True


def _additional_properties(validator: Any, argument: Any, instance: Any, schema: dict[str, Any]) -> Any:
    if "patternProperties" in schema:
        return ()
    return Draft202012Validator.VALIDATORS["additionalProperties"](validator, argument, instance, schema)


def _unchecked(validator: Any, argument: Any, instance: Any, schema: Any) -> tuple[()]:
    return ()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
