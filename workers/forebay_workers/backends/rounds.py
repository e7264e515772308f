"""One answer of vLLM's while it is written: in one round of the engine or, where it had to rest, in several.

A further round gets what is written as part of its prompt, which the engine's prefix cache makes cheap. Neither
characters nor stop sequences keep to the seams between rounds, so from the second round on, as with every answer that
is told piece by piece, the engine only writes tokens and one detokenizer reads the tokens of all rounds.
"""

import math
import time
from typing import TYPE_CHECKING, Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from . import GenerationRequest, OnText

if TYPE_CHECKING:
    from vllm import RequestOutput

_ENDED = ("stop", "length")


class Answer:
    """What is written so far, and what the engine has to be asked for the rest.

    Attributes:
        text: what is certain: nothing in it can still turn out to be the beginning of a stop sequence.
        finish_reason: why the last round ended, in the engine's words; None before.
        cached_prompt_tokens: those of the prompt that were read from the prefix cache.
        first_token_ms: from the beginning of the answer to its first token, where the engine keeps statistics.
    """

    def __init__(
        self, request: GenerationRequest, prompt: list[int], max_tokens: int, tokenizer: Any, on_text: OnText | None
    ) -> None:
        """``prompt`` and ``max_tokens``: for the whole answer, all rounds together."""
        self.prompt = prompt
        self.tokens: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        self.cached_prompt_tokens = 0
        self.first_token_ms: float | None = None
        self._request = request
        self._max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._detokenizer = self._new_detokenizer() if on_text else None
        self._began = self._round_began = time.monotonic()
        self._logprob = self._logprob_before = 0.0
        self._scored_tokens = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.finish_reason in _ENDED

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the tokens' probabilities, in (0, 1]."""
        return min(1.0, math.exp(self._logprob / self._scored_tokens)) if self._scored_tokens else None

    def next_round(self) -> tuple[list[int], SamplingParams]:
        """The tokens and the parameters with which the engine writes what is missing."""
        self._round_began = time.monotonic()
        self._logprob_before = self._logprob
        written = len(self.tokens)
        params = _sampling(self._request, self._max_tokens - written)
        if self._detokenizer is not None:
            params.output_kind, params.detokenize, params.stop = RequestOutputKind.DELTA, False, []
        if params.seed is not None:
            # The engine would draw the same random numbers once more, and repeat itself with them.
            params.seed += written
        return [*self.prompt, *self.tokens], params

    def add(self, output: "RequestOutput") -> None:
        """Take what the engine has written; the answer may be whole before the engine's round is at its end."""
        completion = output.outputs[0]
        tokens = list(completion.token_ids)
        if tokens and not self.tokens:
            self.cached_prompt_tokens = output.num_cached_tokens or 0
            if output.metrics is not None:
                waited_s = self._round_began - self._began
                self.first_token_ms = (waited_s + output.metrics.first_token_latency) * 1000
        self.tokens += tokens
        self._scored_tokens += len(tokens)
        self._logprob = self._logprob_before + (completion.cumulative_logprob or 0.0)
        self.finish_reason = completion.finish_reason
        if self._detokenizer is None:
            self.text = completion.text
        else:
            self._read(self._detokenizer, tokens)

    def interrupted(self) -> None:
        """The answer goes on in another round."""
        if self._detokenizer is None and self.tokens:
            self._detokenizer = self._new_detokenizer()
            self.text = ""  # of this round, all of it; now it is read again, without what is uncertain
            self._read(self._detokenizer, self.tokens)

    def _read(self, detokenizer: IncrementalDetokenizer, tokens: list[int]) -> None:
        if detokenizer.update(tokens, self.finish_reason == "stop") is not None:
            self.finish_reason = "stop"
            self.tokens = list(detokenizer.output_token_ids)  # without those behind the stop sequence
        piece = detokenizer.get_next_output_text(self.whole, delta=True)
        self.text += piece
        if piece and self._on_text is not None:
            self._on_text(piece)

    def _new_detokenizer(self) -> IncrementalDetokenizer:
        request = EngineCoreRequest(
            request_id=self._request.generation_id,
            prompt_token_ids=self.prompt,
            mm_features=None,
            sampling_params=_sampling(self._request, self._max_tokens),
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        return IncrementalDetokenizer.from_new_request(self._tokenizer, request)


def _sampling(request: GenerationRequest, max_tokens: int) -> SamplingParams:
    structured = None
    match request.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            structured = StructuredOutputsParams(json=schema)
        case {"type": "json_object"}:
            structured = StructuredOutputsParams(json_object=True)
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=request.stop,
        seed=request.seed,
        structured_outputs=structured,
        # Of the written tokens only, and without an object for each of them.
        logprobs=0,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
