"""From a task to what its model is asked: the tier's limits and the defaults, applied to the request."""

import json

from forebay_schemas.canonical import all_messages
from forebay_schemas.records import Message, Request
from forebay_schemas.sections import TierConfig

from .backends import GenerationRequest

DEFAULT_TEMPERATURE = 0.0
"""For requests that name none: they may be answered from a cache, so equal ones should get the likeliest answer,
not one of many, and a generation repeated after a crash should say the same."""

_SYSTEM_ROLES = ("system", "developer")


def generation_request(task_id: str, request: Request, tier: TierConfig) -> GenerationRequest:
    """What the model of a tier is asked for a request."""
    form = None if request.response_format is None else json.loads(request.response_format)
    return GenerationRequest(
        task_id=task_id,
        messages=_with_system_prompt(all_messages(request), tier.system_prompt),
        max_tokens=min(request.max_tokens or tier.max_tokens, tier.max_tokens),
        temperature=DEFAULT_TEMPERATURE if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        stop=[*request.stop, *tier.stop],
        seed=request.seed,
        tools=None if request.tools is None else json.loads(request.tools) or None,
        response_format=None if form is None or form["type"] == "text" else form,
    )


def _with_system_prompt(messages: list[Message], addition: str) -> list[Message]:
    """The tier's addition behind the request's own system prompt, so that prompts share the longest prefix."""
    if not addition:
        return messages
    if messages[0].role not in _SYSTEM_ROLES:
        return [Message(role="system", content=addition), *messages]
    first = Message(role=messages[0].role, content=f"{messages[0].content or ''}\n\n{addition}".strip())
    return [first, *messages[1:]]
