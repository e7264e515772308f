"""The load test's backend takes its time, rests when told, and fails where its prompt says so."""

import asyncio
import math
import statistics
import subprocess
import sys

import pytest
from forebay_schemas.tiers import SyntheticConfig
from forebay_workers.backends import Generation, GenerationError, GenerationRequest
from forebay_workers.backends.synthetic import SyntheticBackend

from ..builders import user
from .doubles import to_generate


def asked(question: str = "So?", generation_id: str = "task-1", max_tokens: int = 99) -> GenerationRequest:
    return to_generate(user(question), generation_id=generation_id, max_tokens=max_tokens)


async def test_equal_requests_get_equal_answers_whole_or_in_pieces() -> None:
    backend = SyntheticBackend("load", SyntheticConfig(latency_ms=1, tokens=5))
    pieces: list[str] = []
    streamed = await backend.generate(asked(), pieces.append)
    silent = await backend.generate(asked())
    assert len(pieces) == 5
    assert "".join(pieces) == streamed.text == silent.text != (await backend.generate(asked("And?"))).text
    assert streamed.usage == silent.usage
    assert (silent.finish_reason, silent.confidence, silent.synthetic) == ("stop", 1.0, True)
    assert (await backend.generate(asked(max_tokens=2))).finish_reason == "length"


async def test_the_first_token_comes_before_the_last() -> None:
    config = SyntheticConfig(latency_ms=50, tokens=10)
    answer = await SyntheticBackend("load", config).generate(asked())
    assert answer.first_token_ms is not None
    assert answer.first_token_ms >= config.latency_ms / config.tokens - 1


async def test_lengths_and_doubt_are_spread_as_configured_and_follow_from_the_request() -> None:
    config = SyntheticConfig(latency_ms=0, tokens=40, tokens_spread=0.9, doubtful_share=0.2)

    async def answers() -> list[Generation]:
        backend = SyntheticBackend("load", config)
        return [await backend.generate(asked(f"Number {number}?", max_tokens=10_000)) for number in range(2_000)]

    given = await answers()
    lengths = [answer.usage.completion_tokens for answer in given]
    assert statistics.mean(lengths) == pytest.approx(40, rel=0.1)
    assert statistics.stdev(map(math.log, lengths)) == pytest.approx(0.9, rel=0.1)
    assert statistics.mean(answer.confidence == 0 for answer in given) == pytest.approx(0.2, abs=0.03)
    assert [(answer.text, answer.confidence) for answer in await answers()] == [
        (answer.text, answer.confidence) for answer in given
    ]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_held_generation_does_not_end_before_it_is_released(streamed: bool) -> None:
    backend = SyntheticBackend("load", SyntheticConfig(latency_ms=20, tokens=4))
    held = asyncio.create_task(backend.generate(asked(), (lambda _: None) if streamed else None))
    await asyncio.sleep(0)
    backend.hold("task-1")
    backend.hold("task-1")
    for number in range(3):
        await backend.generate(asked(generation_id=f"another-{number}"))
    assert not held.done()
    backend.release("task-1")
    assert (await held).text
    backend.hold("task-1")


async def test_a_held_generation_can_be_cancelled() -> None:
    backend = SyntheticBackend("load", SyntheticConfig(latency_ms=1, tokens=4))
    held = asyncio.create_task(backend.generate(asked()))
    await asyncio.sleep(0)
    backend.hold("task-1")
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    backend.release("task-1")


async def test_a_prompt_with_the_configured_text_fails() -> None:
    backend = SyntheticBackend("load", SyntheticConfig(latency_ms=1, fail_on="poison"))
    with pytest.raises(GenerationError) as error:
        await backend.generate(asked("a poisoned cup"))
    assert error.value.code == "engine_failed"
    assert (await backend.generate(asked())).text


def test_a_prompt_with_the_configured_text_kills_the_worker() -> None:
    program = """
import asyncio
from forebay_schemas.records import Message
from forebay_schemas.tiers import SyntheticConfig
from forebay_workers.backends import GenerationRequest
from forebay_workers.backends.synthetic import SyntheticBackend
request = GenerationRequest(generation_id="1", messages=[Message(role="user", content="die now")], max_tokens=1,
    temperature=0.0, top_p=1.0, stop=[], seed=None, tools=None, response_format=None)
asyncio.run(SyntheticBackend("load", SyntheticConfig(crash_on="die")).generate(request))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
