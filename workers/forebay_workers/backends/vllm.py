"""vLLM in process: its asynchronous engine with continuous batching."""

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from forebay_schemas.errors import ConfigError, ErrorCode
from forebay_schemas.records import Usage
from forebay_schemas.sections import ModelConfig

from ..parent import mark_worker
from . import EngineDead, Generation, GenerationError, GenerationRequest, OnText
from .prompt import PromptRenderer

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM


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

    async def start(self) -> None:
        self._engine = await asyncio.to_thread(self._load)
        self._prompts = PromptRenderer(self.model_id, self._engine.get_tokenizer())  # pyright: ignore
        self._max_tokens = self._engine.model_config.max_model_len
        self.concurrency = self._engine.vllm_config.scheduler_config.max_num_seqs

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        engine = self._engine
        assert engine is not None, "generate() comes after start()"
        prompt = await asyncio.get_running_loop().run_in_executor(self._rendering, self._prompts.tokens, request)
        room = self._max_tokens - len(prompt)
        if room < 1:
            raise GenerationError(
                ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                f"the prompt has {len(prompt)} tokens, and {self.model_id} takes {self._max_tokens - 1}; shorten it",
            )
        try:
            params = _sampling(request, room)
            last: RequestOutput | None = None
            async for output in engine.generate(tokens_input(prompt), params, request.task_id):
                last = output
        except EngineDeadError as error:
            raise EngineDead(f"the engine of {self.model_id} has died") from error
        except (VLLMClientError, ValueError) as error:
            raise GenerationError(ErrorCode.ENGINE_REFUSED, f"{self.model_id} refuses this request: {error}") from None
        except EngineGenerateError as error:
            cause = error.__cause__ or error
            raise GenerationError(
                ErrorCode.ENGINE_FAILED, f"the engine of {self.model_id} failed ({type(cause).__name__}: {cause})"
            ) from None
        return self._generation(request, last)

    def hold(self, task_id: str) -> None:
        pass

    def release(self, task_id: str) -> None:
        pass

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
            # A signal to the whole process group reaches the engine's process too; it must go on while we drain.
            "shutdown_timeout": math.ceil(self._drain_timeout_s),
        }
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            return AsyncLLM.from_engine_args(AsyncEngineArgs(**own | self._config.engine))
        except ImportError as error:
            raise ConfigError(
                f"models.{self.model_id}.backend: vLLM cannot be imported ({error});"
                " install forebay[workers-gpu] or forebay[workers-cpu]"
            ) from error
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"models.{self.model_id}: vLLM cannot load {self._config.weights} ({error})") from error

    def _generation(self, request: GenerationRequest, output: "RequestOutput | None") -> Generation:
        completion = output.outputs[0] if output else None
        reason = completion.finish_reason if completion else None
        if output is None or completion is None or (reason != "stop" and reason != "length"):
            # A schema that passes vLLM's check may still not compile; the engine then says no more than "error".
            refused = reason == "error" and request.response_format is not None
            raise GenerationError(
                ErrorCode.ENGINE_REFUSED if refused else ErrorCode.ENGINE_FAILED,
                f"{self.model_id} cannot follow this response_format; simplify the schema"
                if refused
                else f"the engine of {self.model_id} gave up on this request ({reason})",
            )
        return Generation(
            text=completion.text,
            model_id=self.model_id,
            finish_reason=reason,
            usage=Usage(
                prompt_tokens=len(output.prompt_token_ids or ()),
                completion_tokens=len(completion.token_ids),
                cached_prompt_tokens=output.num_cached_tokens or 0,
            ),
        )


def _sampling(request: GenerationRequest, room: int) -> "SamplingParams":
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    structured = None
    match request.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            structured = StructuredOutputsParams(json=schema)
        case {"type": "json_object"}:
            structured = StructuredOutputsParams(json_object=True)
    return SamplingParams(
        max_tokens=min(request.max_tokens, room),
        temperature=request.temperature,
        top_p=request.top_p,
        stop=request.stop,
        seed=request.seed,
        structured_outputs=structured,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
