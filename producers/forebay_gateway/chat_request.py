"""What may be asked of chat completions: OpenAI's fields with the values that hold here, and ours in ``forebay``.

A field that would change the answer and cannot be passed on is refused, never passed over.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Zero = Annotated[float, Field(ge=0, le=0)]

UNSUPPORTED = {
    "n": "ask once for each answer, or leave it out",
    "logprobs": "leave it out",
    "top_logprobs": "leave it out",
    "frequency_penalty": "leave it out, or give 0",
    "presence_penalty": "leave it out, or give 0",
    "logit_bias": "leave it out",
    "modalities": 'leave it out, or give ["text"]',
    "audio": "leave it out",
    "prediction": "leave it out",
    "functions": "give tools",
    "function_call": "give tools",
    "tool_choice": 'give "auto", "none", "required", or a function by its name',
    "parallel_tool_calls": "leave it out",
    "reasoning_effort": "leave it out, or choose a tier as model",
    "verbosity": "leave it out",
    "web_search_options": "leave it out",
    "store": "leave it out",
    "moderation": "leave it out",
    "service_tier": "leave it out; forebay.lane chooses the cheaper lane",
    "prompt_cache_options": "leave it out",
    "prompt_cache_retention": "leave it out",
}
"""OpenAI's fields of which only the value that changes nothing is taken, and what to do instead."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Called(_Strict):
    """What an assistant called."""

    name: str
    arguments: str


class ToolCall(_Strict):
    """A call of a tool, in an assistant's earlier turn."""

    id: str
    type: Literal["function"]
    function: Called


def _shape(content: Any) -> str:
    return "<parts>" if isinstance(content, list) else "<text>"


Content = Annotated[
    Annotated[str | None, Tag("<text>")] | Annotated[list[TextPart], Tag("<parts>")], Discriminator(_shape)
]


class Turn(_Strict):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, min_length=1)
    tool_call_id: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = Field(default=None, description="Passed over: an answer that is sent back has it.")


class Function(_Strict):
    """A function that the model may call."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool."""

    type: Literal["function"]
    function: Function


class FunctionName(_Strict):
    """Names a function."""

    name: str = Field(min_length=1)


class NamedTool(_Strict):
    """The function that must be called."""

    type: Literal["function"]
    function: FunctionName


def _choice(value: Any) -> str:
    return "<word>" if isinstance(value, str) else "<function>"


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("<word>")] | Annotated[NamedTool, Tag("<function>")],
    Discriminator(_choice),
]


class JsonSchema(_Strict):
    """A form that the answer must have."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(_Strict):
    """Any text."""

    type: Literal["text"]


class JsonFormat(_Strict):
    """A JSON object."""

    type: Literal["json_object"]


class SchemaFormat(_Strict):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


def _format(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonFormat, Tag("<json_object>")]
    | Annotated[SchemaFormat, Tag("<json_schema>")],
    Discriminator(_format),
]


class StreamOptions(_Strict):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(default=None, description="Passed over: nothing is padded here.")


class Cache(_Strict):
    """What the caches may do."""

    policy: Literal["use", "refresh", "bypass"] = Field(
        default="use", description="Take a known answer and keep a new one; generate anew and keep; or neither."
    )
    scope: Literal["tenant", "user", "shared"] = Field(default="tenant", description="Who may share the answer.")
    ttl_s: int | None = Field(default=None, ge=1, description="How long the answer may be given again, in seconds.")
    sources: list[str] = Field(default_factory=list, description="Data that it depends on, by name.")


class Forebay(_Strict):
    """What OpenAI has no word for; with its clients: ``extra_body={"forebay": {...}}``."""

    cache: Cache | None = None
    lane: Literal["interactive", "batch"] | None = Field(
        default=None, description="batch: cheaper, and answered when there is room."
    )
    deadline_s: float | None = Field(
        default=None, gt=0, le=86_400, description="After so many seconds nobody needs the answer, or pays for it."
    )
    min_tier: str | None = Field(default=None, description="The smallest tier that may answer.")
    max_tier: str | None = Field(default=None, description="The largest.")
    category: str | None = Field(default=None, description="Names the settings for reuse and routing.")
    endpoint: str | None = Field(default=None, description="The caller's own name for the place of the call.")
    prompt_version: str | None = Field(default=None, description="By which answers can be invalidated.")
    priority: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1, description="Higher comes first in a lane.")
    passages: list[str] | None = Field(default=None, description="Context to answer from, apart from the question.")


class ChatRequest(_Strict):
    """The body of a chat completion."""

    model: str = Field(min_length=1, description="auto, a tier, a model, or an alias of gateway.aliases.")
    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = Field(default=None, description="The user, where user is absent.")
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = Field(default=None, description="Passed over: equal prefixes meet by themselves.")
    forebay: Forebay = Forebay()

    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, int], Field(max_length=0)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    parallel_tool_calls: Literal[True] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    audio: None = None
    prediction: None = None
    functions: None = None
    function_call: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None
    moderation: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
