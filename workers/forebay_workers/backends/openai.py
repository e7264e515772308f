"""A model behind an HTTP endpoint that speaks OpenAI's chat completions: a vLLM server, or a provider."""

import asyncio
import dataclasses
import json
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebay_schemas.errors import ConfigError, ErrorCode
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Message, Usage
from forebay_schemas.tiers import EndpointConfig

from . import CutShort, Generation, GenerationError, GenerationRequest, OnText, Unavailable
from .again import retry_after_s
from .batch_calls import BatchCalls
from .endpoint import Endpoint, Passing
from .provider_batches import ProviderBatches

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI
    from openai.types import CompletionUsage

CONNECT_TIMEOUT_S = 5.0
"""A host that is away is found out about long before a slow generation is."""
LONGEST_EXPLANATION = 300
"""Characters of an endpoint's own words in an error: some quote the prompt."""
_REFUSALS = (400, 413, 422)
_PASSING = (408, 409, 429)
"""And all from 500 on."""
_UNREACHED = ("ConnectError", "ConnectTimeout")
"""What httpx calls it, whichever of its versions the library uses."""

_log = logging.getLogger(__name__)


@dataclass
class _Answer:
    """An answer as it arrives, whole or piece by piece."""

    text: str = ""
    finish_reason: str | None = None
    usage: "CompletionUsage | None" = None
    logprobs: list[float] = field(default_factory=list)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    first_token_ms: float | None = None
    pieces: int = 0
    """Of text, as they were streamed."""

    @property
    def told(self) -> Usage:
        """What the endpoint has told of its usage by now: before the end mostly tokens of the answer alone."""
        return _usage(self.usage) if self.usage else Usage(completion_tokens=len(self.logprobs) or self.pieces)


class OpenAIBackend:
    """One endpoint; its connections, its limit and its circuit breaker are those of every tier that uses it."""

    synthetic = False

    def __init__(self, model_id: str, config: EndpointConfig) -> None:
        self.model_id = model_id
        self.concurrency = config.concurrency
        self._config = config
        self._endpoint = Endpoint(model_id, config, time.monotonic)
        self._client: AsyncOpenAI | None = None
        self._gives_logprobs = True
        """Until the endpoint refuses them."""

    @property
    def takes(self) -> int:
        return self._endpoint.takes

    def can_rest(self, *, structured: bool) -> bool:
        return False

    async def start(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                f"models.{self.model_id}.backend: openai cannot be imported ({error}); install forebay[workers-http]"
            ) from error
        key = self._key()
        # What is configured holds: none of the library's own variables may send a secret to this endpoint.
        self._headers: dict[str, Any] = {
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        self._client = openai.AsyncOpenAI(
            base_url=self._config.url,
            api_key=key,
            admin_api_key="",
            timeout=openai.Timeout(self._config.timeout_s, connect=min(CONNECT_TIMEOUT_S, self._config.timeout_s)),
            max_retries=0,  # a rate limit is the endpoint's, not a call's; see ``Endpoint``
        )
        for chatty in ("openai", "httpx", "httpx2"):  # a line for each call
            logging.getLogger(chatty).setLevel(logging.WARNING)

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        return await self._endpoint.call(lambda: self._once(request, on_text), request.until_s)

    def hold(self, generation_id: str) -> None:
        """See ``can_rest``."""

    def release(self, generation_id: str) -> None:
        """See ``can_rest``."""

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _once(self, request: GenerationRequest, on_text: OnText | None) -> Generation:
        """Ask, with the library's errors in our words."""
        import openai

        answer = _Answer()
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await self._ask(request, on_text, answer)
        except asyncio.CancelledError:
            if answer.text:
                raise CutShort(self.model_id, answer.told) from None
            raise
        except (TimeoutError, openai.APITimeoutError) as error:
            message = f"{self.model_id} did not answer within {self._config.timeout_s:g} s"
            raise Unavailable(message, unreached=_kind(error.__cause__) in _UNREACHED) from None
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            message = f"{self.model_id} cannot be reached ({_kind(cause)})"
            if answer.text:
                raise Unavailable(message) from None
            raise Passing(message, unreached=_kind(cause) in _UNREACHED) from None
        except openai.APIError as error:  # told in the middle of a stream
            raise Unavailable(f"{self.model_id} failed ({self._explanation(error.message)})") from None
        except ValueError as error:  # what came is no JSON: a proxy's page, for example
            raise Unavailable(f"{self.model_id} answered with something else than JSON ({_kind(error)})") from None
        return self._generation(answer)

    async def _ask(self, request: GenerationRequest, on_text: OnText | None, answer: _Answer) -> None:
        """Fill the answer, as it arrives."""
        import openai

        parameters = self._parameters(request)
        if not self._gives_logprobs:
            await self._call(parameters, on_text, answer)
            return
        try:
            await self._call({**parameters, "logprobs": True}, on_text, answer)
        except openai.APIStatusError as error:
            if error.status_code not in _REFUSALS or "logprob" not in error.message:
                raise
            await self._call(parameters, on_text, answer)  # or it was something else that it did not like
            self._no_logprobs()

    def _no_logprobs(self) -> None:
        self._gives_logprobs = False
        _log.warning("%s gives no logprobs: its answers have no confidence", self.model_id)

    async def _call(self, parameters: dict[str, Any], on_text: OnText | None, answer: _Answer) -> None:
        assert self._client is not None, "generate() comes after start()"
        began_s = time.monotonic()
        parameters = {**parameters, "extra_headers": self._headers}
        create = self._client.chat.completions.create
        if on_text is None:
            completion = await create(**parameters)
            self._endpoint.heard()
            _take(answer, completion)
            return
        stream: AsyncIterator[Any] = await create(**parameters, stream=True, stream_options={"include_usage": True})
        async with aclosing(stream):
            async for chunk in stream:
                self._endpoint.heard()
                piece = _take(answer, chunk)
                if piece:
                    if answer.first_token_ms is None:
                        answer.first_token_ms = (time.monotonic() - began_s) * 1000
                    answer.pieces += 1
                    on_text(piece)

    def batches(self, owner: str, metrics: WorkerMetrics) -> ProviderBatches:
        """Its provider's own batches; see ``BatchCalls`` for the owner. After ``start``."""
        assert self._client is not None, "batches() comes after start()"
        calls = BatchCalls(self._client, self._headers, owner)
        return ProviderBatches(
            self.model_id, self._config.batches, calls, self._batch_body, self._batch_answer, metrics
        )

    def _batch_body(self, request: GenerationRequest) -> dict[str, Any]:
        parameters = self._parameters(request)
        return {**parameters, "logprobs": True} if self._gives_logprobs else parameters

    def _batch_answer(self, status: int, body: Any) -> Generation | None:
        """What came of a line of a batch; None where it is to be put into another one.

        Raises:
            GenerationError: it has no answer.
        """
        import openai.types.chat

        if status == 200 and isinstance(body, dict):
            answer = _Answer()
            try:
                _take(answer, openai.types.chat.ChatCompletion.construct(**body))
                return dataclasses.replace(self._generation(answer), in_batch=True)
            except (Unavailable, ValueError, AttributeError, TypeError) as error:
                message = f"{self.model_id} answered in a batch with no completion ({_kind(error)})"
                raise GenerationError(ErrorCode.ENGINE_FAILED, message) from None
        error: Any = body.get("error") if isinstance(body, dict) else None
        said, code = (error.get("message"), error.get("code")) if isinstance(error, dict) else (None, None)
        if status in _REFUSALS and self._gives_logprobs and "logprob" in str(said):
            self._no_logprobs()
            return None
        if status in _REFUSALS:
            raise self._refusal(status, said, code)
        raise GenerationError(ErrorCode.ENGINE_FAILED, f"{self.model_id} answered in a batch with status {status}")

    def _parameters(self, request: GenerationRequest) -> dict[str, Any]:
        messages = [_message(message) for message in request.messages]
        if self._config.cache_breakpoints:
            _mark_static_end(messages[: request.static_messages])
        parameters = {
            "model": self._config.model or self.model_id,
            "messages": messages,
            self._config.max_tokens_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        optional = {
            "stop": request.stop or None,
            "seed": request.seed,
            "tools": request.tools,
            "tool_choice": "required" if request.must_call else None,
            "response_format": request.response_format,
        }
        return parameters | {name: value for name, value in optional.items() if value is not None}

    def _generation(self, answer: _Answer) -> Generation:
        if answer.finish_reason is None:
            raise Unavailable(f"{self.model_id} broke off its answer")
        if answer.finish_reason == "content_filter":
            raise GenerationError(ErrorCode.ENGINE_REFUSED, f"a content filter of {self.model_id} withheld the answer")
        calls = list(answer.tool_calls.values())
        if answer.usage is None:
            _log.warning("%s tells no usage: this answer seems to cost nothing", self.model_id)
        return Generation(
            text=answer.text,
            model_id=self.model_id,
            finish_reason="length" if answer.finish_reason == "length" else "tool_calls" if calls else "stop",
            tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
            usage=_usage(answer.usage),
            confidence=math.exp(sum(answer.logprobs) / len(answer.logprobs)) if answer.logprobs else None,
            first_token_ms=answer.first_token_ms,
        )

    def _status_error(self, error: "APIStatusError") -> GenerationError:
        self._endpoint.heard()
        status = error.status_code
        said = error.body.get("message") if isinstance(error.body, dict) else None
        if status in _REFUSALS:
            return self._refusal(status, said, error.code)
        if status in (401, 403, 404):
            _log.error(
                "models.%s.endpoint: %s answers with status %d; check url, api_key and model",
                self.model_id,
                self._config.url,
                status,
            )
        message = f"{self.model_id} answered with status {status}"
        if status not in _PASSING and status < 500:
            return Unavailable(message)
        return Passing(message, limited=status == 429, again_s=retry_after_s(error.response.headers))

    def _refusal(self, status: int, said: str | None, code: str | None) -> GenerationError:
        too_long = code == "context_length_exceeded" or "context length" in str(said).lower()
        return GenerationError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED if too_long else ErrorCode.ENGINE_REFUSED,
            f"{self.model_id} refuses this request: {self._explanation(said or f'status {status}')}",
        )

    def _explanation(self, text: str) -> str:
        """An endpoint's own words, short, and without the key that some endpoints repeat."""
        key = self._key()
        return (text.replace(key, "***") if key else text)[:LONGEST_EXPLANATION]

    def _key(self) -> str:
        return self._config.api_key.get_secret_value() if self._config.api_key else ""


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls is not None:
        turn["tool_calls"] = json.loads(message.tool_calls)
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _mark_static_end(static: list[dict[str, Any]]) -> None:
    """Ask for everything up to the last static message with a text to be kept in the provider's cache."""
    for turn in reversed(static):
        if turn["content"]:
            turn["content"] = [{"type": "text", "text": turn["content"], "cache_control": {"type": "ephemeral"}}]
            return


def _take(answer: _Answer, completion: Any) -> str:
    """Add a completion, or a chunk of one, to the answer; the text that it brought.

    Raises:
        ValueError: it is neither: the library gives what it cannot read as it is.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list):
        raise ValueError("no choices")
    answer.usage = completion.usage or answer.usage
    if not choices:  # the last chunk, which holds the usage
        return ""
    choice = choices[0]
    part = choice.message if hasattr(choice, "message") else choice.delta
    answer.finish_reason = choice.finish_reason or answer.finish_reason
    if choice.logprobs is not None:
        answer.logprobs += [token.logprob for token in choice.logprobs.content or ()]
    for place, call in enumerate(part.tool_calls or ()):
        whole = answer.tool_calls.setdefault(
            getattr(call, "index", place), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        whole["id"] = call.id or whole["id"]
        whole["function"]["name"] += call.function.name or ""
        whole["function"]["arguments"] += call.function.arguments or ""
    piece = part.content or part.refusal or ""
    answer.text += piece
    return piece


def _usage(usage: "CompletionUsage | None") -> Usage:
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    cached = (details and details.cached_tokens) or 0
    # The second name is Anthropic's, which gateways in front of its models keep.
    written = getattr(details, "cache_write_tokens", None) or getattr(usage, "cache_creation_input_tokens", None)
    written = written or 0
    beside = cached + written > usage.prompt_tokens  # some count them so, and not among the prompt's
    return Usage(
        prompt_tokens=usage.prompt_tokens + (cached + written if beside else 0),
        completion_tokens=usage.completion_tokens,
        cached_prompt_tokens=cached,
        cache_write_prompt_tokens=written,
    )


def _kind(error: BaseException | None) -> str:
    return type(error).__name__
