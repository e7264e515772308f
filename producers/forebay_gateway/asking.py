"""From a chat completion's body to the request that is published."""

from typing import Any

from forebay_client.openai_format import fields_of_chat
from forebay_schemas.config import Config

from .chat_request import ChatRequest
from .errors import ApiError

_OF_THE_CALL = {"lane", "deadline_s"}
"""Members of ``forebay`` that a line of a batch has not."""


def request_fields(body: ChatRequest, config: Config) -> dict[str, Any]:
    """The fields of a request, as ``RequestFields``, without its id and tenant.

    Raises:
        ApiError: options of a stream are given without one.
        InvalidRequest: the model means nothing, or two fields contradict each other.
    """
    if body.stream_options is not None and not body.stream:
        message = "stream_options: is given without stream; leave it out, or stream"
        raise ApiError(400, message, code="invalid_value", param="stream_options")
    passed = {"stream": True, "stream_options": True, "forebay": _OF_THE_CALL}
    told = body.model_dump(by_alias=True, exclude_none=True, exclude=passed)
    return fields_of_chat(told, config) | body.forebay.model_dump(include=_OF_THE_CALL, exclude_none=True)
