"""From a task to what its model is asked: the tier's limits and the defaults, applied to the request."""

import dataclasses
import json
from typing import Any

import msgspec
from forebay_schemas.canonical import all_messages
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import CacheScope, Lane, Message, Request
from forebay_schemas.tiers import TierConfig

from .backends import GenerationRequest

DEFAULT_TEMPERATURE = 0.0
"""For requests that name none: they may be answered from a cache, so equal ones should get the likeliest answer,
not one of many, and a generation repeated after a crash should say the same."""

ONCE_MORE_TEMPERATURE = 0.7
"""At least this for an answer that is asked for once more: the likeliest one would come out the same."""

_SYSTEM_ROLES = ("system", "developer")


def generation_request(generation_id: str, request: Request, tier: TierConfig, lane: Lane) -> GenerationRequest:
    """What the model of a tier is asked for a request.

    Args:
        generation_id: one that no other attempt on the task has, of whichever tier.
        lane: of the task, which is not the request's where a batch request leads an interactive one.

    Raises:
        InvalidRequest: its response format cannot be read; whoever wrote the task did not check it.
    """
    messages, static = _conversation(request, tier)
    return GenerationRequest(
        generation_id=generation_id,
        messages=messages,
        max_tokens=min(request.max_tokens or tier.max_tokens, tier.max_tokens),
        temperature=DEFAULT_TEMPERATURE if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        stop=[*request.stop, *tier.stop],
        seed=request.seed,
        tools=None if request.tools is None else json.loads(request.tools) or None,
        must_call=request.tool_choice == "required",
        response_format=_response_format(request),
        static_messages=static,
        tenant=None if request.cache.scope is CacheScope.SHARED else request.tenant,
        lane=lane,
        priority=request.priority,
        model=tier.model,
    )


def is_structured(request: Request | None) -> bool:
    """Whether the answer follows a response format, or that of a call; False where the request, or its format, cannot
    be read."""
    try:
        return request is not None and (request.tool_choice is not None or _response_format(request) is not None)
    except InvalidRequest:
        return False


def once_more(request: GenerationRequest) -> GenerationRequest:
    """The same for another try, whose answer should differ from the first."""
    line = request.line and dataclasses.replace(request.line, line_id=f"{request.line.line_id}-again")
    return dataclasses.replace(
        request, temperature=max(request.temperature, ONCE_MORE_TEMPERATURE), seed=None, line=line
    )


def _response_format(request: Request) -> dict[str, Any] | None:
    if request.response_format is None:
        return None
    try:
        form = json.loads(request.response_format)
    except (ValueError, RecursionError):
        form = None
    if not isinstance(form, dict) or "type" not in form:
        raise InvalidRequest("response_format", "is no JSON object with a type", "give OpenAI's, as JSON text")
    return None if form["type"] == "text" else form


def _conversation(request: Request, tier: TierConfig) -> tuple[list[Message], int]:
    """The turns, and how many of the first ones are the same from request to request."""
    messages = all_messages(request)
    static = len(request.static_messages) or _leading_system(messages)
    if request.passages:
        place = _last_user_turn(messages)
        messages[place : place + 1] = [_with_passages(messages[place : place + 1], request.passages)]
        static = min(static, place)
    addition = "\n\n".join(filter(None, (tier.system_prompt, tier.length_directive)))
    if not addition:
        return messages, static
    if messages[0].role in _SYSTEM_ROLES:
        # Behind the request's own system prompt, so that prompts share the longest prefix over all tiers.
        content = f"{messages[0].content or ''}\n\n{addition}".strip()
        return [Message(role=messages[0].role, content=content), *messages[1:]], static
    return [Message(role="system", content=addition), *messages], static + 1


def _leading_system(messages: list[Message]) -> int:
    others = (place for place, message in enumerate(messages) if message.role not in _SYSTEM_ROLES)
    return next(others, len(messages))


def _last_user_turn(messages: list[Message]) -> int:
    """Its index; the end where the user said nothing."""
    return max((place for place, message in enumerate(messages) if message.role == "user"), default=len(messages))


def _with_passages(turn: list[Message], passages: list[str]) -> Message:
    """The passages within the user's turn, because many chat templates refuse a turn more; one of its own for none."""
    numbered = [f"[{number}] {passage}" for number, passage in enumerate(passages, 1)]
    if not turn:
        return Message(role="user", content="\n\n".join(["Passages:", *numbered]))
    text = "\n\n".join(["Passages:", *numbered, f"Question: {turn[0].content or ''}"])
    return msgspec.structs.replace(turn[0], content=text)
