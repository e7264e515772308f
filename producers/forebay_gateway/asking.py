"""From a chat completion's body to the request that is published."""

from typing import Any

from forebay_client.openai_format import fields_of_chat
from forebay_schemas.config import Config

from .chat_request import ChatRequest
from .errors import ApiError

_OF_THE_CALL = ("stream", "stream_options", "tool_choice")
"""What says how to answer, and nothing of the request."""


def request_fields(body: ChatRequest, config: Config) -> dict[str, Any]:
    """The fields of a request, as ``RequestFields``, without its id and tenant.

    Raises:
        ApiError: two fields contradict each other.
        InvalidRequest: the model means nothing.
    """
    ours = body.forebay
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise _contradiction("max_tokens", "is not max_completion_tokens, its newer name; leave one of them out")
    if body.stream_options is not None and not body.stream:
        raise _contradiction("stream_options", "is given without stream; leave it out, or stream")
    told = body.model_dump(by_alias=True, exclude_none=True, exclude={*_OF_THE_CALL, "forebay"})
    if body.tool_choice == "none":
        told.pop("tools", None)
    fields = fields_of_chat(told, config)
    own = ours.model_dump(exclude_none=True)
    for name in ("min_tier", "max_tier"):
        if name in own and name in fields:
            raise _contradiction(f"forebay.{name}", f"model says already that {fields[name]} answers; leave it out")
    return fields | own


def _contradiction(field: str, message: str) -> ApiError:
    return ApiError(400, f"{field}: {message}", code="invalid_value", param=field)
