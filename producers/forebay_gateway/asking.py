"""From a chat completion's body to the request that is published."""

from collections.abc import Mapping
from typing import Any

from forebay_client.requests import RequestFields

from .chat_request import ChatRequest, Turn
from .errors import ApiError


def request_fields(body: ChatRequest, tier: str | None) -> RequestFields:
    """The fields of a request, without its id and tenant.

    Args:
        tier: the one that may answer, by the body's model; None: those of ``forebay``.

    Raises:
        ApiError: two fields contradict each other.
    """
    ours = body.forebay
    if tier is not None and (ours.min_tier or ours.max_tier):
        field = "forebay.min_tier" if ours.min_tier else "forebay.max_tier"
        raise _contradiction(field, f"model says already that {tier} answers; leave it out, or use the model auto")
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise _contradiction("max_tokens", "is not max_completion_tokens, its newer name; leave one of them out")
    if body.stream_options is not None and not body.stream:
        raise _contradiction("stream_options", "is given without stream; leave it out, or stream")
    fields = RequestFields(
        messages=[_turn(turn) for turn in body.messages],
        user=body.user or body.safety_identifier,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=body.stop,
        seed=body.seed,
        metadata=body.metadata,
        min_tier=tier or ours.min_tier,
        max_tier=tier or ours.max_tier,
        lane=ours.lane,
        deadline_s=ours.deadline_s,
        category=ours.category,
        endpoint=ours.endpoint,
        prompt_version=ours.prompt_version,
        priority=ours.priority,
        passages=ours.passages,
        cache=None if ours.cache is None else ours.cache.model_dump(),
    )
    if body.tools and body.tool_choice != "none":
        fields["tools"] = [tool.model_dump(exclude_none=True) for tool in body.tools]
    if body.response_format is not None:
        fields["response_format"] = body.response_format.model_dump(exclude_none=True, by_alias=True)
    return fields


def _turn(turn: Turn) -> Mapping[str, Any]:
    return {
        "role": turn.role,
        "content": turn.text(),
        "name": turn.name,
        "tool_calls": None if turn.tool_calls is None else [call.model_dump() for call in turn.tool_calls],
        "tool_call_id": turn.tool_call_id,
    }


def _contradiction(field: str, message: str) -> ApiError:
    return ApiError(400, f"{field}: {message}", code="invalid_value", param=field)
