"""The load test's backend: configured latency and length, text that follows from the request, no model."""

import asyncio
import hashlib

import msgspec
from forebay_schemas.records import Usage
from forebay_schemas.sections import SyntheticConfig

from . import Generation, GenerationRequest, OnText

_WORDS = ("water", "gate", "turbine", "valve", "level", "flow", "head", "basin", "spill", "intake", "river", "rain")


class SyntheticBackend:
    """Answers after a fixed time with as many words as tokens are configured; equal requests get equal text."""

    synthetic = True

    def __init__(self, model_id: str, config: SyntheticConfig) -> None:
        self.model_id = model_id
        self.concurrency = config.concurrency
        self._latency_s = config.latency_ms / 1000
        self._tokens = config.tokens

    async def start(self) -> None:
        """Nothing has to be loaded."""

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        await asyncio.sleep(self._latency_s)
        digest = hashlib.shake_128(msgspec.json.encode([request.messages, request.seed]))
        tokens = min(self._tokens, request.max_tokens)
        return Generation(
            text=" ".join(_WORDS[byte % len(_WORDS)] for byte in digest.digest(tokens)),
            model_id=self.model_id,
            synthetic=True,
            finish_reason="length" if tokens < self._tokens else "stop",
            usage=Usage(
                prompt_tokens=sum(len((message.content or "").split()) for message in request.messages),
                completion_tokens=tokens,
            ),
        )

    def hold(self, task_id: str) -> None:
        """Nothing is computed here, so nothing can rest."""

    def release(self, task_id: str) -> None:
        """See ``hold``."""

    async def stop(self) -> None:
        """Nothing runs here that would not be cancelled with its request."""
