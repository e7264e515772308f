"""An answer of the engine is the same whether it is written in one go, piece by piece, or with rests in between."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_schemas.records import Lane
from forebay_schemas.tiers import ModelConfig
from forebay_workers.backends import CutShort, Generation, GenerationError, GenerationRequest
from forebay_workers.backends.vllm import VllmBackend

from ..builders import user
from .doubles import to_generate

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

MAX_NUM_SEQS = 4
QUESTIONS = [f"What is the {thing} of the river?" for thing in ("head", "fall", "flow", "level", "salt", "name", "end")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmBackend]:
    pytest.importorskip("vllm")  # takes ten seconds, so not while tests are collected
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "max_num_seqs": MAX_NUM_SEQS}
    price: Any = {"input_per_1k": 0, "output_per_1k": 0}
    weights = str(make_tiny_model(tmp_path_factory.mktemp("tiny")))
    backend = VllmBackend("tiny", ModelConfig(price=price, weights=weights, engine=engine), drain_timeout_s=1)
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task of each round that the engine was asked for."""
    from vllm.v1.engine.async_llm import AsyncLLM

    begun: list[str] = []
    generate = AsyncLLM.generate

    def noted(self: Any, prompt: Any, params: Any, request_id: str, **rest: Any) -> Any:
        begun.append(request_id)
        return generate(self, prompt, params, request_id, **rest)

    monkeypatch.setattr(AsyncLLM, "generate", noted)
    return begun


def asked(question: str = QUESTIONS[0], generation_id: str = "task-1", **fields: Any) -> GenerationRequest:
    return to_generate(user(question), generation_id=generation_id, **{"max_tokens": 80} | fields)


async def longest(backend: VllmBackend) -> tuple[str, Generation]:
    """The question with the longest answer, and the answer."""
    answers = [(question, await backend.generate(asked(question))) for question in QUESTIONS]
    return max(answers, key=lambda pair: pair[1].usage.completion_tokens)


async def with_rests(
    backend: VllmBackend, request: GenerationRequest, every: int, pieces: list[str] | None = None
) -> Generation:
    """Generate with a rest after every so many pieces: its own where they are wanted, else those of a companion."""
    told = 0

    def rest(_: str) -> None:
        nonlocal told
        told += 1
        if told % every == 0:
            backend.hold(request.generation_id)
            asyncio.get_running_loop().call_soon(backend.release, request.generation_id)

    def keep_and_rest(piece: str) -> None:
        assert pieces is not None
        pieces.append(piece)
        rest(piece)

    if pieces is not None:
        return await backend.generate(request, keep_and_rest)
    begun = asyncio.Event()

    def rest_with_company(piece: str) -> None:
        begun.set()
        rest(piece)

    async def keep_company() -> None:
        while True:
            companion = asked(QUESTIONS[1], "companion", max_tokens=200, temperature=1.0)
            await backend.generate(companion, rest_with_company)

    company = asyncio.create_task(keep_company())
    try:
        await begun.wait()
        return await backend.generate(request)
    finally:
        company.cancel()
        await asyncio.gather(company, return_exceptions=True)


def late_stops(text: str) -> list[str]:
    """Sequences of some lengths, each of which comes up for the first time in the second half of the text."""
    middle = len(text) // 2
    found = []
    for length in (2, 4, 9):
        slices = (text[place : place + length] for place in range(middle, len(text) - length))
        found.append(next(piece for piece in slices if text.index(piece) >= middle))
    return found


async def test_the_pieces_of_an_answer_join_to_its_text(backend: VllmBackend) -> None:
    for question in QUESTIONS:
        pieces: list[str] = []
        streamed = await backend.generate(asked(question), pieces.append)
        silent = await backend.generate(asked(question))
        assert "".join(pieces) == streamed.text == silent.text
        assert streamed.usage.completion_tokens == silent.usage.completion_tokens
        assert streamed.finish_reason == silent.finish_reason
        assert streamed.confidence == pytest.approx(silent.confidence, rel=1e-3)


async def test_confidence_and_the_time_of_the_first_token_are_told(backend: VllmBackend) -> None:
    answer = await backend.generate(asked())
    assert answer.confidence is not None
    assert 0 < answer.confidence < 1
    assert answer.first_token_ms is not None
    assert answer.first_token_ms > 0


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_with_rests_is_the_answer_without(
    backend: VllmBackend, rounds: list[str], every: int, streamed: bool
) -> None:
    question, whole = await longest(backend)
    rounds.clear()
    pieces: list[str] = []
    rested = await with_rests(backend, asked(question, "rested"), every, pieces if streamed else None)
    assert rounds.count("rested") > 1
    assert rested.text == whole.text
    assert rested.finish_reason == whole.finish_reason
    assert rested.usage.prompt_tokens == whole.usage.prompt_tokens
    assert rested.usage.completion_tokens == whole.usage.completion_tokens
    assert rested.usage.cached_prompt_tokens <= rested.usage.prompt_tokens
    assert rested.confidence == pytest.approx(whole.confidence, rel=1e-2)
    assert not streamed or "".join(pieces) == whole.text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stop_sequence_is_found_wherever_the_rests_fall(
    backend: VllmBackend, rounds: list[str], streamed: bool
) -> None:
    question, whole = await longest(backend)
    for stop in late_stops(whole.text):
        request = asked(question, "stopped", stop=[stop, "never written"])
        expected = await backend.generate(request)
        rounds.clear()
        pieces: list[str] = []
        rested = await with_rests(backend, request, 1, pieces if streamed else None)
        assert rounds.count("stopped") > 1
        assert (rested.text, rested.finish_reason) == (expected.text, "stop")
        assert rested.usage.completion_tokens == expected.usage.completion_tokens
        assert not streamed or "".join(pieces) == expected.text


async def test_a_held_generation_gives_way_within_a_step_and_writes_nothing_until_it_is_released(
    backend: VllmBackend,
) -> None:
    question, whole = await longest(backend)
    pieces: list[str] = []
    some = asyncio.Event()

    def on_text(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 5:
            some.set()

    generation = asyncio.create_task(backend.generate(asked(question), on_text))
    await some.wait()
    told = len(pieces)
    backend.hold("task-1")
    await backend.generate(asked(QUESTIONS[1], "another"))
    assert len(pieces) <= told + 2, "the step that runs, and one that the engine has begun behind it"
    told = len(pieces)
    await backend.generate(asked(QUESTIONS[2], "another"))
    assert len(pieces) == told
    assert not generation.done()
    backend.release("task-1")
    assert (await generation).text == whole.text


async def test_a_held_generation_can_be_cancelled(backend: VllmBackend) -> None:
    begun = asyncio.Event()
    generation = asyncio.create_task(backend.generate(asked(), lambda _: begun.set()))
    await begun.wait()
    backend.hold("task-1")
    await backend.generate(asked(generation_id="another"))
    generation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await generation
    backend.release("task-1")
    assert (await backend.generate(asked())).text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_generation_tells_what_it_has_written(backend: VllmBackend, streamed: bool) -> None:
    question, whole = await longest(backend)
    told: list[str] = []
    some = asyncio.Event()

    def on_text(piece: str) -> None:
        told.append(piece)
        if len(told) == 5:
            some.set()

    generation = asyncio.create_task(backend.generate(asked(question), on_text if streamed else None))
    companion = asyncio.create_task(backend.generate(asked(question, "companion"), None if streamed else on_text))
    await some.wait()
    generation.cancel()
    with pytest.raises(CutShort) as cut:
        await generation
    used = cut.value.generation.usage
    assert used.prompt_tokens == whole.usage.prompt_tokens
    assert 0 < used.completion_tokens < whole.usage.completion_tokens
    assert (await companion).text == whole.text


async def test_one_that_is_held_before_it_begins_waits(backend: VllmBackend, rounds: list[str]) -> None:
    generation = asyncio.create_task(backend.generate(asked()))
    await asyncio.sleep(0)
    backend.hold("task-1")
    await backend.generate(asked(generation_id="another"))
    assert "task-1" not in rounds
    backend.release("task-1")
    assert (await generation).text


async def test_holding_and_releasing_what_does_not_run_does_nothing(backend: VllmBackend) -> None:
    backend.hold("unknown")
    backend.release("unknown")
    generation = asyncio.create_task(backend.generate(asked()))
    await asyncio.sleep(0)
    backend.release("task-1")
    assert (await generation).text
    backend.hold("task-1")
    assert (await backend.generate(asked())).text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_structured_answer_cannot_rest_and_goes_on(
    backend: VllmBackend, rounds: list[str], streamed: bool
) -> None:
    schema = {"type": "string", "pattern": "^[a-z]{40}$"}
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}}
    whole = await backend.generate(asked(response_format=form))
    pieces: list[str] = []
    answer = await with_rests(
        backend, asked(generation_id="rested", response_format=form), 3, pieces if streamed else None
    )
    assert rounds.count("rested") == 1
    assert not backend.can_rest(structured=True)
    assert backend.can_rest(structured=False)
    assert answer.text == whole.text
    assert not streamed or "".join(pieces) == answer.text


@pytest.mark.parametrize("limit", [100, 5])
async def test_a_required_call_has_the_form_of_one_unless_it_is_cut_off(backend: VllmBackend, limit: int) -> None:
    def function(name: str, *units: str) -> dict[str, Any]:
        unit = {"type": "object", "properties": {"unit": {"enum": units}}, "required": ["unit"]}
        closed = unit | {"additionalProperties": False}
        return {"type": "function", "function": {"name": name, "parameters": closed}}

    tools = [function("heat", "celsius", "kelvin"), function("length", "metre")]
    pieces: list[str] = []
    answer = await backend.generate(asked(tools=tools, must_call=True, max_tokens=limit), pieces.append)
    assert pieces == []
    if limit == 5:
        assert (answer.finish_reason, answer.tool_calls) == ("length", None)
        return
    [call] = json.loads(answer.tool_calls or "")
    assert (answer.finish_reason, answer.text, call["type"]) == ("tool_calls", "", "function")
    units = {"heat": ("celsius", "kelvin"), "length": ("metre",)}[call["function"]["name"]]
    assert json.loads(call["function"]["arguments"])["unit"] in units


async def test_a_schema_that_would_take_minutes_to_compile_keeps_no_structured_answer_waiting(
    backend: VllmBackend,
) -> None:
    def following(pattern: str, name: str) -> GenerationRequest:
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": {"type": "string", "pattern": pattern}}}
        return asked(generation_id=name, max_tokens=8, response_format=form)

    async with asyncio.timeout(40):
        with suppress(GenerationError):  # to refuse it is as good
            await backend.generate(following("^" + "(a?b*)" * 5_000 + "$", "hostile"))
        assert (await backend.generate(following("^[a-z]{3}$", "plain"))).text[:1] == '"'


async def test_what_is_urgent_overtakes_what_waits_for_the_engine(backend: VllmBackend) -> None:
    order: list[str] = []

    def begins(name: str) -> Callable[[str], None]:
        return lambda _: None if name in order else order.append(name)

    full = [
        asyncio.create_task(
            backend.generate(
                asked(generation_id=f"full-{number}", max_tokens=300, temperature=1.5, stop=[]), begins("full")
            )
        )
        for number in range(MAX_NUM_SEQS)
    ]
    waiting: dict[str, dict[str, Any]] = {
        "batch": {"lane": Lane.BATCH, "priority": 2**31 - 1},
        "interactive": {"priority": -(2**31)},
        "urgent": {"priority": 1},
    }
    late = [
        asyncio.create_task(backend.generate(asked(generation_id=name, **fields), begins(name)))
        for name, fields in waiting.items()
    ]
    await asyncio.gather(*full, *late)
    assert order == ["full", "urgent", "interactive", "batch"]


async def test_a_prompt_without_room_for_an_answer_is_an_error_of_the_request(backend: VllmBackend) -> None:
    with pytest.raises(GenerationError, match="shorten it") as error:
        await backend.generate(asked("x" * 2000))
    assert error.value.code == "context_length_exceeded"


async def test_an_answer_that_meets_its_limit_is_cut_off(backend: VllmBackend) -> None:
    answer = await backend.generate(asked(max_tokens=1))
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == 1


async def test_tenants_read_nothing_from_each_others_prefixes(backend: VllmBackend) -> None:
    async def cached(tenant: str | None, generation_id: str) -> int:
        request = asked("The same long words. " * 40, generation_id, max_tokens=1, tenant=tenant)
        return (await backend.generate(request)).usage.cached_prompt_tokens

    assert await cached("acme", "first") == 0
    assert await cached("acme", "again") > 0
    assert await cached("globex", "other") == 0
    assert await cached(None, "shared") == 0
    assert await cached(None, "shared-again") > 0
