"""One model's answers to all prompts, and how fast it gives them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import TypeVar

from forebay_schemas.errors import ForebayError
from forebay_workers.backends import Generation, GenerationError, GenerationRequest, ModelBackend, Unavailable

from .jobs import Answer, Answered, Speed

_SPEED_PROMPTS = 64
"""A round of so many fills the usual engine, and takes seconds to a minute whatever the number of prompts."""
_FIRST_TOKEN_PROMPTS = 16
_TELL_EVERY_S = 5.0

Doing = Callable[[str], None]
_T = TypeVar("_T")


class NoAnswers(ForebayError):
    """A model answers nothing, so it cannot be compared."""


async def answer_all(
    backend: ModelBackend, requests: Sequence[GenerationRequest], rounds: int, doing: Doing
) -> Answered:
    """Load the model, measure how soon it begins, let it answer all requests, and measure how fast it writes.

    Args:
        rounds: measurements of the speed, of which the median counts.
        doing: is told what goes on.

    Raises:
        ConfigError: the model cannot be loaded.
        Unavailable: it cannot be reached.
        EngineDead: it has died.
        NoAnswers: it answers nothing.
    """
    doing("loading")
    began_s = time.monotonic()
    try:
        await backend.start()
        load_s = time.monotonic() - began_s
        sample = spread(requests, _SPEED_PROMPTS)
        doing("measuring the time to the first token")
        first_token_ms = await _first_token_ms(backend, sample)
        answers = [_answer(outcome) for outcome in await _generate(backend, requests, _Count(len(requests), doing))]
        if all(answer.text is None for answer in answers):
            raise NoAnswers(f"{backend.model_id} answers none of the prompts; the first one: {answers[0].error}")
        rates = []
        for number in range(1, rounds + 1):
            doing(f"measuring the speed, round {number} of {rounds}")
            rates.append(await _tokens_per_s(backend, sample, number))
    finally:
        await backend.stop()
    return Answered(answers, Speed(median(rates), rates, first_token_ms, load_s))


def spread(lines: Sequence[_T], count: int) -> list[_T]:
    """At most ``count`` of what a file holds, evenly from beginning to end: files are often sorted."""
    step = max(1.0, len(lines) / count)
    return [lines[int(place * step)] for place in range(min(count, len(lines)))]


async def _first_token_ms(backend: ModelBackend, sample: Sequence[GenerationRequest]) -> float:
    """The median over prompts that are new to the model and come one by one, after one that warms it up.

    An answer that ends with its first token takes this time on every backend, streaming or not.
    """
    first, *others = [
        replace(request, generation_id=f"{request.generation_id}-first", max_tokens=1) for request in sample
    ]
    await _generate(backend, [first])
    times_ms = []
    for request in spread(others or [first], _FIRST_TOKEN_PROMPTS):
        began_s = time.monotonic()
        await _generate(backend, [request])
        times_ms.append((time.monotonic() - began_s) * 1000)
    return median(times_ms)


async def _tokens_per_s(backend: ModelBackend, sample: Sequence[GenerationRequest], number: int) -> float:
    """Of one round. The prompts were answered before, so caches and kernels are as warm as they get."""
    again = [replace(request, generation_id=f"{request.generation_id}-round-{number}") for request in sample]
    began_s = time.monotonic()
    outcomes = await _generate(backend, again)
    tokens = sum(outcome.usage.completion_tokens for outcome in outcomes if isinstance(outcome, Generation))
    return tokens / (time.monotonic() - began_s)


class _Count:
    """Tells now and then how many requests are answered."""

    def __init__(self, total: int, doing: Doing) -> None:
        self._total = total
        self._doing = doing
        self._done = 0
        self._told_s = time.monotonic()

    def __call__(self) -> None:
        self._done += 1
        now_s = time.monotonic()
        if now_s - self._told_s > _TELL_EVERY_S or self._done == self._total:
            self._told_s = now_s
            self._doing(f"answering, {self._done} of {self._total}")


async def _generate(
    backend: ModelBackend, requests: Sequence[GenerationRequest], on_done: Callable[[], None] = lambda: None
) -> list[Generation | GenerationError]:
    """The outcome of each request, as many at once as the model takes."""
    room = asyncio.Semaphore(backend.concurrency)

    async def generate(request: GenerationRequest) -> Generation | GenerationError:
        async with room:
            try:
                return await backend.generate(request)
            except Unavailable:
                raise
            except GenerationError as error:
                return error
            finally:
                on_done()

    return await asyncio.gather(*map(generate, requests))


def _answer(outcome: Generation | GenerationError) -> Answer:
    return Answer(text=outcome.text) if isinstance(outcome, Generation) else Answer(error=str(outcome))
