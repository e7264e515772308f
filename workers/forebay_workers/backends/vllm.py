"""vLLM in process: its asynchronous engine with continuous batching."""

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from forebay_schemas.errors import ConfigError, ErrorCode
from forebay_schemas.records import Lane, Usage
from forebay_schemas.tiers import ModelConfig

from ..parent import mark_worker
from . import CutShort, EngineDead, Generation, GenerationError, GenerationRequest, OnText
from .forced_calls import as_call, in_the_form_of_a_call
from .prompt import PromptRenderer
from .vllm_logs import DICT_CONFIG

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

    from .rounds import Answer

BEHIND_INTERACTIVE = 2**32
"""Added to the engine's priority of batch tasks, where lower comes first; a request's own has 32 bits."""


AHEAD = 0.5
"""Of the generations that the engine runs at once, so many more wait inside it: one that ends is followed in the next
step, where a task from outside would come a step later."""


class _Running:
    """A generation, which may have to rest."""

    def __init__(self, can_rest: bool) -> None:
        self.can_rest = can_rest
        self.awake = asyncio.Event()
        self.awake.set()
        self.interrupted = False
        """Whether the engine was told to end the current round."""


class VllmBackend:
    """One engine; vLLM is imported when it starts, which takes longer than all else in this process."""

    synthetic = False

    def __init__(self, model_id: str, config: ModelConfig, drain_timeout_s: float) -> None:
        self.model_id = model_id
        self.concurrency = 0
        self._config = config
        self._drain_timeout_s = drain_timeout_s
        self._engine: AsyncLLM | None = None
        # One thread: rendering must not hold up the event loop, and two would only share the interpreter lock.
        self._rendering = ThreadPoolExecutor(1, "prompt")
        self._running: dict[str, _Running] = {}
        self._aborts: set[asyncio.Task[None]] = set()
        self._dead = False

    @property
    def takes(self) -> int:
        return 0 if self._dead else self.concurrency

    def can_rest(self, *, structured: bool) -> bool:
        # The engine follows a schema from an answer's first token on: it cannot enter one in the middle.
        return not structured

    async def start(self) -> None:
        self._engine = await asyncio.to_thread(self._load)
        # Asked for once here, it is known when a round begins, which then begins without giving way to a `hold`.
        await self._engine.get_supported_tasks()
        self._tokenizer = self._engine.get_tokenizer()
        self._prompts = PromptRenderer(self.model_id, self._tokenizer)  # pyright: ignore
        self._max_tokens = self._engine.model_config.max_model_len
        at_once = self._engine.vllm_config.scheduler_config.max_num_seqs
        self.concurrency = at_once + math.ceil(at_once * AHEAD)

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        engine = self._engine
        assert engine is not None, "generate() comes after start()"
        if request.must_call:
            return as_call(await self.generate(in_the_form_of_a_call(request)))
        running = _Running(self.can_rest(structured=request.response_format is not None))
        self._running[request.generation_id] = running
        try:
            return self._generation(request, await self._write(engine, request, on_text, running))
        finally:
            del self._running[request.generation_id]

    def hold(self, generation_id: str) -> None:
        running = self._running.get(generation_id)
        if running is None or self._engine is None or not running.can_rest or not running.awake.is_set():
            return
        running.awake.clear()
        running.interrupted = True
        abort = asyncio.create_task(self._engine.abort(generation_id))
        self._aborts.add(abort)
        abort.add_done_callback(self._aborts.discard)

    def release(self, generation_id: str) -> None:
        running = self._running.get(generation_id)
        if running is not None:
            running.awake.set()

    async def stop(self) -> None:
        self._rendering.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            # On the loop, not beside it: the engine's own reader would take the end of its process for a crash.
            # No grace: nothing runs any more, and vLLM's workers on CPU use up whatever they are given.
            self._engine.shutdown(timeout=0)
            self._engine = None

    def _load(self) -> "AsyncLLM":
        mark_worker()
        # Set before vLLM is read: this process has threads, and a fork would copy their locks.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        own: dict[str, Any] = {
            "model": self._config.weights,
            "scheduling_policy": "priority",
            # A signal to the whole process group reaches the engine's process too; it must go on while we drain.
            "shutdown_timeout": math.ceil(self._drain_timeout_s),
        }
        try:
            from vllm import AsyncEngineArgs
            from vllm.config import StructuredOutputsConfig
            from vllm.config.logging import LoggingConfig
            from vllm.v1.engine.async_llm import AsyncLLM

            # Schemas come with requests, and xgrammar, the usual choice, may compile one of some kilobytes for minutes,
            # in part on this very loop. guidance follows it token by token, and refuses what would cost too much.
            os.environ.setdefault("LLGUIDANCE_LOG_LEVEL", "0")  # else it writes what it refuses to stderr, whole
            # No space between the parts of an object: small models write spaces until their answer is cut off.
            structured = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)
            own["structured_outputs_config"] = structured
            own["logging_config"] = LoggingConfig(pylogging_config_file=str(DICT_CONFIG))
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**own | self._config.engine))
        except ImportError as error:
            raise ConfigError(
                f"models.{self.model_id}.backend: vLLM cannot be imported ({error});"
                " install forebay[workers-gpu] or forebay[workers-cpu]"
            ) from error
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"models.{self.model_id}: vLLM cannot load {self._config.weights} ({error})") from error

    async def _write(
        self, engine: "AsyncLLM", request: GenerationRequest, on_text: OnText | None, running: _Running
    ) -> "Answer":
        """Let the engine write an answer, in as many rounds as it takes."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        from .rounds import Answer

        if self._dead:
            raise EngineDead(f"the engine of {self.model_id} has died")
        prompt = await asyncio.get_running_loop().run_in_executor(self._rendering, self._prompts.tokens, request)
        room = self._max_tokens - len(prompt)
        if room < 1:
            raise GenerationError(
                ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                f"the prompt has {len(prompt)} tokens, and {self.model_id} takes {self._max_tokens - 1}; shorten it",
            )
        answer = Answer(request, prompt, min(request.max_tokens, room), self._tokenizer, on_text)
        try:
            while True:
                while not running.awake.is_set():  # it may be held again before this task comes to run
                    await running.awake.wait()
                running.interrupted = False
                await self._write_round_or_cut(engine, request, answer)
                if answer.whole or not running.interrupted:
                    return answer
                answer.interrupted()
        except asyncio.CancelledError:
            if answer.tokens:  # without one, nobody knows whether the prompt was read
                raise CutShort(self.model_id, _usage(answer)) from None
            raise
        except EngineDeadError as error:
            self._dead = True
            raise EngineDead(f"the engine of {self.model_id} has died") from error
        except (VLLMClientError, ValueError) as error:
            raise GenerationError(ErrorCode.ENGINE_REFUSED, f"{self.model_id} refuses this request: {error}") from None
        except EngineGenerateError as error:
            cause = error.__cause__ or error
            raise GenerationError(
                ErrorCode.ENGINE_FAILED, f"the engine of {self.model_id} failed ({type(cause).__name__}: {cause})"
            ) from None

    async def _write_round_or_cut(self, engine: "AsyncLLM", request: GenerationRequest, answer: "Answer") -> None:
        """One round. Cancelled, it is ended by the engine, which then tells what it has written."""
        writing = asyncio.create_task(self._write_round(engine, request, answer))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await engine.abort(request.generation_id)
            await asyncio.wait([writing])
            raise

    async def _write_round(self, engine: "AsyncLLM", request: GenerationRequest, answer: "Answer") -> None:
        from vllm.inputs.engine import tokens_input

        tokens, params = answer.next_round()
        priority = (BEHIND_INTERACTIVE if request.lane is Lane.BATCH else 0) - request.priority
        salt = None if self._config.share_prefixes else request.tenant
        prompt = tokens_input(tokens, cache_salt=salt)
        outputs = engine.generate(prompt, params, request.generation_id, priority=priority)
        async with aclosing(outputs):
            async for output in outputs:
                answer.add(output)
                if answer.whole and not output.finished:  # the engine does not look for every stop sequence
                    return

    def _generation(self, request: GenerationRequest, answer: "Answer") -> Generation:
        reason = answer.finish_reason
        if reason != "stop" and reason != "length":
            # A schema that passes vLLM's check may still not compile; the engine then says no more than "error".
            refused = reason == "error" and request.response_format is not None
            raise GenerationError(
                ErrorCode.ENGINE_REFUSED if refused else ErrorCode.ENGINE_FAILED,
                f"{self.model_id} cannot follow this response_format; simplify the schema"
                if refused
                else f"the engine of {self.model_id} gave up on this request ({reason})",
            )
        return Generation(
            text=answer.text,
            model_id=self.model_id,
            finish_reason=reason,
            usage=_usage(answer),
            confidence=answer.confidence,
            first_token_ms=answer.first_token_ms,
        )


def _usage(answer: "Answer") -> Usage:
    return Usage(
        prompt_tokens=len(answer.prompt),
        completion_tokens=len(answer.tokens),
        cached_prompt_tokens=answer.cached_prompt_tokens,
    )
