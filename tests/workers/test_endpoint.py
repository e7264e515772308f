"""An endpoint is called so often at a time, again after a failure that may pass, and not while it wants none."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from forebay_schemas.records import Usage
from forebay_schemas.tiers import EndpointConfig
from forebay_workers.backends import Generation, Unavailable
from forebay_workers.backends import endpoint as calls
from forebay_workers.backends.endpoint import Endpoint, Passing

ANSWER = Generation(text="Paris.", finish_reason="stop", usage=Usage(), model_id="hosted")
LIMITED = Passing("slow down", limited=True, again_s=60.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for, which takes no time but the clock's."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pass_time(seconds: float) -> None:
        pauses.append(seconds)
        clock.now_s += seconds
        await sleep(0)

    monkeypatch.setattr(calls.asyncio, "sleep", pass_time)
    return pauses


def made(clock: Clock, **settings: Any) -> Endpoint:
    return Endpoint("hosted", EndpointConfig(**{"url": "http://x", "failures_to_open": 2, **settings}), clock)


def saying(*says: Generation | Exception) -> Callable[[], Awaitable[Generation]]:
    """Calls that end one after the other like this."""
    left = list(says)

    async def once() -> Generation:
        if isinstance(said := left.pop(0), Exception):
            raise said
        return said

    return once


async def never() -> Generation:
    return await asyncio.get_running_loop().create_future()


async def cut(
    endpoint: Endpoint, count: int, after_s: float, clock: Clock, heard: bool = False, time_s: float | None = None
) -> None:
    """As many calls that nobody answers, and which have so much time, are cancelled together after so long."""
    until_s = clock() + (after_s if time_s is None else time_s)
    hanging = [asyncio.create_task(endpoint.call(never, until_s)) for _ in range(count)]
    await asyncio.sleep(0)
    clock.now_s += after_s
    if heard:
        endpoint.heard()
    for call in hanging:
        call.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_an_endpoint_that_hangs_is_left_alone_although_every_deadline_ends_first(clock: Clock) -> None:
    endpoint = made(clock)
    await cut(endpoint, 6, 30.0, clock)
    assert endpoint.takes == 0
    with pytest.raises(Unavailable, match="left alone"):
        await endpoint.call(saying(ANSWER))


@pytest.mark.parametrize(("after_s", "heard", "time_s"), [(1.0, False, 1.0), (30.0, True, 30.0), (30.0, False, 31.0)])
async def test_a_call_that_is_taken_back_says_nothing_of_an_endpoint_that_works(
    clock: Clock, after_s: float, heard: bool, time_s: float
) -> None:
    """It had too little time, or others were answered, or it still had time: its partition went to another worker."""
    endpoint = made(clock)
    await cut(endpoint, 6, after_s, clock, heard, time_s)
    assert endpoint.takes == 64
    assert await endpoint.call(saying(ANSWER)) is ANSWER


async def test_a_rate_limit_holds_for_all_calls(clock: Clock) -> None:
    endpoint = made(clock)
    with pytest.raises(Unavailable, match="another 60 s"):
        await endpoint.call(saying(LIMITED))
    assert endpoint.takes == 0
    with pytest.raises(Unavailable, match="another 60 s"):
        await endpoint.call(saying())
    clock.now_s += 60
    assert endpoint.takes == 64
    assert await endpoint.call(saying(ANSWER)) is ANSWER


async def test_the_end_of_a_limit_that_is_near_is_waited_for(clock: Clock, pauses: list[float]) -> None:
    endpoint = made(clock)
    limited = Passing("slow down", limited=True, again_s=3.0)
    assert await endpoint.call(saying(limited, ANSWER)) is ANSWER
    assert sum(pauses) >= 3.0


async def test_no_call_comes_before_the_end_of_a_limit_not_even_one_that_waited_for_a_place(
    clock: Clock, pauses: list[float]
) -> None:
    endpoint = made(clock, concurrency=1, max_retries=1)
    called_s: list[float] = []
    say = saying(Passing("slow down", limited=True, again_s=3.0), ANSWER, ANSWER, ANSWER)

    async def once() -> Generation:
        called_s.append(clock())
        await asyncio.sleep(0)
        return await say()

    await asyncio.gather(*(endpoint.call(once) for _ in range(3)))
    assert len(called_s) == 4
    assert all(at_s >= called_s[0] + 3.0 for at_s in called_s[1:])


async def test_one_that_is_limited_works_and_is_no_reason_to_leave_it_alone(clock: Clock) -> None:
    endpoint = made(clock, failures_to_open=1, max_retries=0)
    with pytest.raises(Unavailable):
        await endpoint.call(saying(LIMITED))
    clock.now_s += 60
    assert endpoint.takes == 64


async def test_who_waits_to_try_again_keeps_no_other_call_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(calls, "LONGEST_PAUSE_S", 3600.0)
    endpoint = made(clock, concurrency=1)
    waiting = asyncio.create_task(endpoint.call(saying(Passing("starting"), ANSWER)))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await endpoint.call(saying(ANSWER)) is ANSWER
    assert not waiting.done()
    waiting.cancel()


async def test_pauses_between_tries_grow_and_differ(clock: Clock, pauses: list[float]) -> None:
    endpoint = made(clock, max_retries=4)
    failures = [Passing("starting")] * 4
    assert await endpoint.call(saying(*failures, ANSWER)) is ANSWER
    assert [0.75 * 0.5 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses)] == [True] * 4


async def test_a_generation_that_fails_at_every_try_is_one_failure(clock: Clock, pauses: list[float]) -> None:
    endpoint = made(clock, max_retries=2, failures_to_open=2)
    for takes in (64, 0):
        with pytest.raises(Passing):
            await endpoint.call(saying(*[Passing("starting")] * 3))
        assert endpoint.takes == takes
    clock.now_s += 15
    assert endpoint.takes == 1, "one tries it again"
    with pytest.raises(Passing):
        await endpoint.call(saying(Passing("starting")))
    assert endpoint.takes == 0
