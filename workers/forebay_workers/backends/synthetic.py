"""The load test's backend: no model; all of an answer follows from the request and the configuration."""

import asyncio
import hashlib
import math
import os
import signal
from statistics import NormalDist

import msgspec
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Usage
from forebay_schemas.tiers import SyntheticConfig

from . import Generation, GenerationError, GenerationRequest, OnText

_WORDS = ("water", "gate", "turbine", "valve", "level", "flow", "head", "basin", "spill", "intake", "river", "rain")


class _Clock:
    """The time of one generation, which stands still while it is held."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.stopped = asyncio.Event()
        self.running.set()

    def hold(self) -> None:
        self.running.clear()
        self.stopped.set()

    def release(self) -> None:
        self.stopped.clear()
        self.running.set()

    async def spend(self, seconds: float) -> None:
        """Return when the clock has run for this long."""
        now_s = asyncio.get_running_loop().time
        while True:
            await self.running.wait()
            began_s = now_s()
            try:
                async with asyncio.timeout(seconds):
                    await self.stopped.wait()
            except TimeoutError:
                return
            seconds -= now_s() - began_s


class SyntheticBackend:
    """Answers after the configured time with as many words as tokens; equal requests to a model get equal answers."""

    synthetic = True

    def __init__(self, model_id: str, config: SyntheticConfig) -> None:
        self.model_id = model_id
        self.concurrency = config.concurrency
        self._config = config
        self._clocks: dict[str, _Clock] = {}

    @property
    def takes(self) -> int:
        return self.concurrency

    def can_rest(self, *, structured: bool) -> bool:
        return True

    async def start(self) -> None:
        """Nothing has to be loaded."""

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        self._fail_where_configured(request)
        clock = self._clocks[request.generation_id] = _Clock()
        try:
            return await self._write(request, clock, on_text)
        finally:
            del self._clocks[request.generation_id]

    def hold(self, generation_id: str) -> None:
        if clock := self._clocks.get(generation_id):
            clock.hold()

    def release(self, generation_id: str) -> None:
        if clock := self._clocks.get(generation_id):
            clock.release()

    async def stop(self) -> None:
        """Nothing runs here that would not be cancelled with its request."""

    def _fail_where_configured(self, request: GenerationRequest) -> None:
        prompt = "\n".join(message.content or "" for message in request.messages)
        if self._config.crash_on is not None and self._config.crash_on in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._config.fail_on is not None and self._config.fail_on in prompt:
            raise GenerationError(ErrorCode.ENGINE_FAILED, f"{self.model_id} fails on this prompt, as configured")

    async def _write(self, request: GenerationRequest, clock: _Clock, on_text: OnText | None) -> Generation:
        began_s = asyncio.get_running_loop().time()
        digest = hashlib.shake_128(msgspec.json.encode([self.model_id, request.messages, request.seed]))
        length, doubt = _shares(digest.digest(8))
        wanted = self._length(length)
        tokens = min(wanted, request.max_tokens)
        words = [_WORDS[byte % len(_WORDS)] for byte in digest.digest(tokens)]
        latency_s = self._config.latency_ms / 1000 * tokens / self._config.tokens
        await clock.spend(latency_s / tokens)
        first_token_ms = (asyncio.get_running_loop().time() - began_s) * 1000
        if on_text is None:  # one wait for all the others: a load test has thousands of these
            await clock.spend(latency_s - latency_s / tokens)
        else:
            on_text(words[0])
            for word in words[1:]:
                await clock.spend(latency_s / tokens)
                on_text(f" {word}")
        return Generation(
            text=" ".join(words),
            model_id=self.model_id,
            synthetic=True,
            finish_reason="length" if tokens < wanted else "stop",
            usage=Usage(
                prompt_tokens=sum(len((message.content or "").split()) for message in request.messages),
                completion_tokens=tokens,
            ),
            confidence=0.0 if doubt < self._config.doubtful_share else 1.0,
            first_token_ms=first_token_ms,
        )

    def _length(self, share: float) -> int:
        """The length in tokens that this share of all answers stays below."""
        mean, spread = self._config.tokens, self._config.tokens_spread
        if not spread:
            return mean
        of_logarithm = NormalDist(math.log(mean) - spread**2 / 2, spread)
        return max(1, round(math.exp(of_logarithm.inv_cdf(share))))


def _shares(digest: bytes) -> tuple[float, float]:
    """Two numbers in (0, 1), evenly spread over digests of 8 bytes."""
    first, second = (int.from_bytes(half) for half in (digest[:4], digest[4:]))
    return (first + 0.5) / 2**32, (second + 0.5) / 2**32
