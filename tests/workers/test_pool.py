"""A tier goes on answering while one of its models can; a model that keeps failing is left alone for a while."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Usage
from forebay_workers.backends import EngineDead, Generation, GenerationError, GenerationRequest, OnText, Unavailable
from forebay_workers.backends.breaker import Breaker
from forebay_workers.backends.pool import Pool

from .doubles import to_generate

REQUEST = to_generate()


class Scripted:
    """A model that tells some pieces and then fails, or answers with them."""

    synthetic = False

    def __init__(self, model_id: str, pieces: list[str], error: Exception | None = None, concurrency: int = 8) -> None:
        self.model_id = model_id
        self.concurrency = self.takes = concurrency
        self.rests = True
        self.calls: list[str] = []
        self._pieces = pieces
        self._error = error

    def can_rest(self, *, structured: bool) -> bool:
        return self.rests

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        self.calls.append(f"generate {request.generation_id}")
        for piece in self._pieces if on_text else []:
            on_text(piece)  # pyright: ignore[reportOptionalCall]
        if self._error is not None:
            raise self._error
        return Generation(text="".join(self._pieces), finish_reason="stop", usage=Usage(), model_id=self.model_id)

    def hold(self, generation_id: str) -> None:
        self.calls.append(f"hold {generation_id}")

    def release(self, generation_id: str) -> None:
        self.calls.append(f"release {generation_id}")


def away(name: str, *told: str) -> Scripted:
    return Scripted(name, list(told), Unavailable(f"{name} is away"))


async def test_the_first_model_that_can_answers_and_the_reply_names_it() -> None:
    models = [away("a"), Scripted("b", ["hi"]), Scripted("c", ["ho"])]
    pieces: list[str] = []
    pool = Pool(models[0], models[1:])
    for on_text in (None, pieces.append):
        answer = await pool.generate(REQUEST, on_text)
        assert (answer.text, answer.model_id) == ("hi", "b")
    assert pieces == ["hi"]
    assert models[2].calls == []


async def test_a_pool_is_unavailable_when_all_its_models_are() -> None:
    with pytest.raises(Unavailable, match="a is away; b is away"):
        await Pool(away("a"), [away("b")]).generate(REQUEST)


@pytest.mark.parametrize("others", [True, False])
async def test_a_request_is_known_not_to_have_come_to_a_pool_when_it_came_to_none_of_its_models(others: bool) -> None:
    refusing = Scripted("a", [], Unavailable("a refuses connections", unreached=True))
    other = Scripted("b", [], Unavailable("b is away", unreached=others))
    with pytest.raises(Unavailable) as error:
        await Pool(refusing, [other]).generate(REQUEST)
    assert error.value.unreached is others


async def test_a_model_that_fails_is_followed_by_the_next() -> None:
    failing = Scripted("a", [], GenerationError(ErrorCode.ENGINE_FAILED, "a failed"))
    assert (await Pool(failing, [Scripted("b", ["hi"])]).generate(REQUEST)).model_id == "b"
    with pytest.raises(GenerationError, match="a failed; b is away") as error:
        await Pool(failing, [away("b")]).generate(REQUEST)
    assert not isinstance(error.value, Unavailable), "another attempt may be answered"


async def test_standbys_take_over_from_a_dead_engine_after_the_attempt_that_it_died_under() -> None:
    dead, standby = Scripted("a", [], EngineDead("a has died")), Scripted("b", ["hi"])
    pool = Pool(dead, [standby])
    with pytest.raises(GenerationError, match="a has died") as error:
        await pool.generate(REQUEST)
    assert error.value.code == ErrorCode.ENGINE_FAILED
    assert standby.calls == [], "what killed one engine would kill the next before that is counted"
    assert (await pool.generate(REQUEST)).model_id == "b"
    assert dead.calls == ["generate task-1"]


async def test_a_pool_is_dead_when_its_last_engine_is() -> None:
    pool = Pool(Scripted("a", [], EngineDead("a has died")), [Scripted("b", [], EngineDead("b has died"))])
    with pytest.raises(GenerationError, match="a has died"):
        await pool.generate(REQUEST)
    with pytest.raises(EngineDead, match="b has died"):
        await pool.generate(REQUEST)


async def test_no_other_model_goes_on_with_a_text_that_was_begun() -> None:
    standby = Scripted("b", ["hi"])
    pieces: list[str] = []
    with pytest.raises(Unavailable, match="a is away"):
        await Pool(away("a", "The ans"), [standby]).generate(REQUEST, pieces.append)
    assert pieces == ["The ans"]
    assert standby.calls == []


async def test_a_request_that_a_model_refuses_is_not_passed_on() -> None:
    standby = Scripted("b", ["hi"])
    primary = Scripted("a", [], GenerationError(ErrorCode.ENGINE_REFUSED, "bad schema"))
    with pytest.raises(GenerationError, match="bad schema"):
        await Pool(primary, [standby]).generate(REQUEST)
    assert standby.calls == []


def test_all_models_rest_and_go_on() -> None:
    models = [away("a"), away("b")]
    pool = Pool(models[0], models[1:])
    pool.hold("task-1")
    pool.release("task-1")
    assert [model.calls for model in models] == [["hold task-1", "release task-1"]] * 2


async def test_one_that_is_held_between_two_generations_rests_before_the_next() -> None:
    model = Scripted("a", ["hi"])
    pool = Pool(model)
    await pool.generate(REQUEST)
    pool.hold("task-1")
    again = asyncio.create_task(pool.generate(REQUEST))
    await asyncio.sleep(0)  # it has its turn
    assert model.calls == ["generate task-1", "hold task-1"]
    pool.release("task-1")
    assert (await again).text == "hi"


def test_a_pool_takes_what_the_first_model_takes_that_takes_any() -> None:
    models = [Scripted("a", [], concurrency=8), Scripted("b", [], concurrency=3)]
    models[1].rests = False
    pool = Pool(models[0], models[1:])
    assert (pool.takes_for(None), pool.can_rest(None, structured=False)) == (8, True)
    models[0].takes = 0
    assert (pool.takes_for(None), pool.can_rest(None, structured=False)) == (3, False)
    models[1].takes = 0
    assert pool.takes_for(None) == 0


def test_a_pool_speaks_for_its_primary() -> None:
    pool = Pool(Scripted("a", [], concurrency=3), [Scripted("b", [])])
    assert (pool.model_id, pool.concurrency, pool.synthetic) == ("a", 3, False)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures_to_open=3, open_s=10, now_s=clock)


def after(breaker: Breaker, *endings: Callable[[Breaker], None]) -> Breaker:
    for ending in endings:
        assert breaker.admits()
        ending(breaker)
    return breaker


def test_failures_in_a_row_open_a_breaker(breaker: Breaker) -> None:
    after(breaker, Breaker.failed, Breaker.failed)
    assert breaker.admits()
    breaker.failed()
    assert breaker.open
    assert not breaker.admits()


def test_a_success_between_failures_begins_the_count_anew(breaker: Breaker) -> None:
    after(breaker, Breaker.failed, Breaker.failed, Breaker.succeeded, Breaker.failed, Breaker.failed)
    assert breaker.admits()


def test_one_call_tries_an_endpoint_that_was_left_alone(breaker: Breaker, clock: Clock) -> None:
    after(breaker, *[Breaker.failed] * 3)
    clock.now_s += 9.9
    assert not breaker.admits()
    clock.now_s += 0.1
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert not breaker.open
    assert all(breaker.admits() for _ in range(3))


def test_a_trial_that_fails_keeps_a_breaker_open_for_as_long_again(breaker: Breaker, clock: Clock) -> None:
    after(breaker, *[Breaker.failed] * 3)
    clock.now_s += 10
    after(breaker, Breaker.failed)
    clock.now_s += 9.9
    assert not breaker.admits()
    clock.now_s += 0.1
    assert breaker.admits()


def test_a_trial_that_is_abandoned_leaves_the_next_call_to_try(breaker: Breaker, clock: Clock) -> None:
    after(breaker, *[Breaker.failed] * 3)
    clock.now_s += 10
    after(breaker, Breaker.abandoned)
    assert breaker.admits()


def test_calls_from_before_it_opened_do_not_keep_it_open(breaker: Breaker, clock: Clock) -> None:
    late: Any = [breaker.admits() for _ in range(5)]
    assert all(late)
    for _ in range(3):
        breaker.failed()
    clock.now_s += 5
    breaker.failed()
    clock.now_s += 5
    assert breaker.admits()
