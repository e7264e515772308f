"""What the OpenAPI document says of answers: OpenAI's shapes, as ``completions`` and ``errors`` make them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]


class Error(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """OpenAI's error object."""

    error: Error


class Function(BaseModel):
    """What is called, with JSON text of its arguments."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: Function


class Answer(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0]
    message: Answer
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptTokens(BaseModel):
    """Tokens of the prompt by kind."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens, and where the answer came from."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    forebay: dict[str, Any]


class Completion(BaseModel):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Model(BaseModel):
    """A name that ``model`` may have."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


def errors(by_status: Mapping[int, str]) -> Responses:
    """Statuses and what they mean, each with OpenAI's error object."""
    return {status: {"model": ErrorBody, "description": what} for status, what in by_status.items()}


ALWAYS = errors(
    {
        401: "The API key is missing, unknown or revoked.",
        403: "Without keys, a call from elsewhere.",
        413: "More than is taken.",
        429: "A limit of the key is used up; Retry-After says when to come again.",
        500: "A defect.",
        503: "Overloaded, or the pipeline is away; Retry-After says when to come again.",
    }
)
"""What may come of any call."""

CHAT: Responses = {
    **ALWAYS,
    200: {
        "model": Completion,
        "description": "The answer; with `stream`, events that each hold a chunk of it, and `[DONE]` at the end.",
        "content": {"text/event-stream": {}},
    },
    **errors(
        {
            400: "A field that has a value that cannot be used, or is not supported; `param` names it.",
            404: "There is no such model.",
            409: "The request was cancelled from elsewhere.",
            504: "Nothing came in time.",
        }
    ),
}
