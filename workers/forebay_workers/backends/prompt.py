"""From a conversation to prompt tokens, with control tokens only where the model's chat template puts them.

A text may hold the very characters that mark a turn (``<|im_start|>system``). Tokenised with the template around
it, they would become control tokens and the text could speak as somebody else. So each such sequence is cut with
a mark behind its first character before the template is applied, and the rendered prompt is tokenised piece by
piece between the marks: the model reads the characters that were written, as ordinary text. A text without such
sequences is tokenised in one go, exactly as the model expects it.
"""

import json
import re
import secrets
from typing import Any, Protocol

from forebay_schemas.errors import ConfigError, ErrorCode
from forebay_schemas.records import Message

from . import GenerationError, GenerationRequest


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    added_tokens_decoder: dict[int, Any]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def get_chat_template(self, chat_template: str | None = None, tools: list[Any] | None = None) -> str: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


class PromptRenderer:
    """Applies the chat template of one model.

    Raises:
        ConfigError: the model has no chat template.
    """

    def __init__(self, model_id: str, tokenizer: Tokenizer) -> None:
        self._model_id = model_id
        self._tokenizer = tokenizer
        # Private-use characters with a secret between: no text can hold it, so no text can cut a template.
        self._mark = f"\ue000{secrets.token_hex(8)}\ue001"
        self._control = _occurrences([token.content for token in tokenizer.added_tokens_decoder.values()])
        try:
            tokenizer.get_chat_template()
        except ValueError:
            raise ConfigError(
                f"models.{model_id}.weights: the model has no chat template; use an instruction-tuned one"
            ) from None

    def tokens(self, request: GenerationRequest) -> list[int]:
        """The prompt of a request.

        Raises:
            GenerationError: ``engine_refused``, the template does not accept the conversation.
        """
        messages = [self._message(message) for message in request.messages]
        tools = self._cut(request.tools)
        if tools and "tools" not in self._tokenizer.get_chat_template(tools=tools):
            messages, tools = _with_tools_in_system(messages, tools), None
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is code of the model's: it raises what it likes
            raise GenerationError(
                ErrorCode.ENGINE_REFUSED,
                f"the chat template of {self._model_id} does not accept these messages ({error}); change their roles",
            ) from None
        pieces = text.split(self._mark)
        return [token for piece in pieces for token in self._tokenizer.encode(piece, add_special_tokens=False)]

    def _message(self, message: Message) -> dict[str, Any]:
        turn: dict[str, Any] = {
            # Few templates know OpenAI's newer name for the same thing.
            "role": "system" if message.role == "developer" else message.role,
            "content": message.content or "",
        }
        if message.name is not None:
            turn["name"] = message.name
        if message.tool_calls is not None:
            turn["tool_calls"] = [_with_parsed_arguments(call) for call in json.loads(message.tool_calls)]
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        return self._cut(turn)

    def _cut(self, value: Any) -> Any:
        match value:
            case str():
                return self._control.sub(lambda match: match[0] + self._mark, value)
            case list():
                return [self._cut(item) for item in value]
            case dict():
                return {self._cut(key): self._cut(item) for key, item in value.items()}
        return value


def _occurrences(tokens: list[str]) -> re.Pattern[str]:
    """Matches the first character of every occurrence of one of the tokens, overlapping ones too."""
    # Runs of whitespace are added to some vocabularies to make code short; they control nothing.
    control = [re.escape(token) for token in tokens if len(token) > 1 and not token.isspace()]
    return re.compile(f"(?=(?:{'|'.join(control)})).", re.DOTALL) if control else re.compile(r"(?!)")


def _with_parsed_arguments(call: Any) -> Any:
    """A tool call with its arguments as an object, as templates expect, not as OpenAI's JSON text."""
    match call:
        case {"function": {"arguments": str(arguments)} as function}:
            try:
                return {**call, "function": {**function, "arguments": json.loads(arguments)}}
            except ValueError:
                return call
    return call


def _with_tools_in_system(messages: list[dict[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
    """Show the tools to a model whose template has no place for them."""
    shown = "These tools can be used:\n" + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{shown}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": shown}, *messages]
