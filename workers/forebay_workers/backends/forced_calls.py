"""Has a model that writes text alone call a tool: the call is the form that its answer must have."""

import json
import uuid
from dataclasses import replace
from typing import Any

from forebay_schemas.errors import ErrorCode

from . import Generation, GenerationError, GenerationRequest

_ANY_ARGUMENTS = {"type": "object"}
"""Of a function that names no parameters."""


def in_the_form_of_a_call(request: GenerationRequest) -> GenerationRequest:
    """The same request, whose answer is JSON of the function's name and its arguments.

    Raises:
        GenerationError: ``engine_refused``, a tool is no function.
    """
    schema = {"anyOf": [_call_of(tool) for tool in request.tools or ()]}
    form = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    return replace(request, response_format=form, must_call=False)


def as_call(answer: Generation) -> Generation:
    """The answer as the call that it writes; one that was cut off stays text."""
    try:
        called = json.loads(answer.text)
        function = {"name": called["name"], "arguments": json.dumps(called["arguments"], ensure_ascii=False)}
    except (ValueError, TypeError, KeyError):
        return answer
    calls = [{"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}]
    return replace(answer, text="", finish_reason="tool_calls", tool_calls=json.dumps(calls, ensure_ascii=False))


def _call_of(tool: Any) -> dict[str, Any]:
    match tool:
        case {"type": "function", "function": {"name": str(name), **function}}:
            arguments = function.get("parameters") or _ANY_ARGUMENTS
            return {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
    raise GenerationError(ErrorCode.ENGINE_REFUSED, f"a tool is no function with a name: {tool!a:.80}")
