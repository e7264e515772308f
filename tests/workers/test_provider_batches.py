"""Batch tasks go into the provider's own batches at its price: each is answered, and none is paid for twice, whatever
becomes of the batch, of the provider and of the worker."""

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane, Reply
from forebay_schemas.tiers import ProviderBatchesConfig, TierConfig
from forebay_workers.backends import BatchLine, batch_following, provider_batches
from forebay_workers.backends.batch_calls import BatchCallFailed
from forebay_workers.backends.provider_batches import ProviderBatches
from forebay_workers.generation import generation_request
from forebay_workers.offsets import decode
from prometheus_client import CollectorRegistry

from ..builders import make_request, user
from ..provider import serving
from ..provider_batches import Batch, Batches
from ..waiting import until
from .doubles import CODEC, task_for
from .running import TIERS, Running

pytest.importorskip("openai")

P = ("llm.tier.small.batch", 0)
HOUR_MS = 3_600_000
BEGAN_MS = round(time.time() * 1000)
SETTINGS = (
    """
[models.model]
backend = "openai"
price = { input_per_1k = 1.0, output_per_1k = 1.0, batch_factor = 0.5 }
[models.model.endpoint]
url = "URL"
batch_api = true
[models.model.endpoint.batches]
BATCHES
[models.canary]
backend = "openai"
price = { input_per_1k = 1.0, output_per_1k = 1.0 }
endpoint = { url = "URL", batch_api = true, batches = { gather_s = 0.05 } }
[worker]
commit_interval_ms = 1
"""
    + TIERS
)
QUICK = {"gather_s": 0.05, "poll_s": 0.02}
IN_BATCH = (12 + 8) / 1000 * 0.5
"""US dollars for what the provider says in a batch, and for what the worker's own model says."""
DIRECT = (3 + 2) / 1000


@pytest.fixture(autouse=True)
def _patient_for_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_following, "FIRST_POLL_S", 0.01)
    monkeypatch.setattr(provider_batches, "FIRST_PAUSE_S", 0.02)


@pytest.fixture
def provider() -> Batches:
    return Batches()


@pytest.fixture
def url(provider: Batches) -> Iterator[str]:
    with serving(lambda question, _: f"answer to {question}", provider) as url:
        yield url


class Start(Protocol):
    async def __call__(self, **settings: Any) -> Running: ...


@pytest.fixture
async def start(tmp_path: Path, url: str) -> AsyncIterator[Start]:
    running: list[Running] = []

    async def start(**settings: Any) -> Running:
        batches = "\n".join(f"{name} = {value}" for name, value in (QUICK | settings).items())
        running.append(Running(tmp_path, 8, SETTINGS.replace("URL", url).replace("BATCHES", batches)))
        await running[-1].ready.wait()
        return running[-1]

    yield start
    for each in running:
        await kill(each)


async def kill(run: Running) -> None:
    """End a worker in the middle of everything."""
    run.task.cancel()
    with contextlib.suppress(BaseException):
        await run.task
    await run.handover.close()
    for backend in run.opened.values():
        await backend.stop()


def deliver(run: Running, *names: str, age_ms: int = 0, **fields: Any) -> None:
    """Batch tasks that ask for their names, on one partition; of one name, the same bytes each time."""
    for name in names:
        fields |= {"request_id": name, "created_ms": BEGAN_MS - age_ms, "messages": [user(name)]}
        run.batch.deliver(name, offset=ord(name) - ord("a"), **fields)


def replies(run: Running) -> dict[str, Reply]:
    """What was answered, by task."""
    records = [record for share in run.published.committed for record in share.records]
    sent = [CODEC.decode(record.value, Reply) for record in records if record.topic.endswith(".replies")]
    found = {reply.request_id: reply for reply in sent}
    assert len(found) == len(sent), "a task is answered once"
    return found


async def made(provider: Batches, count: int = 1) -> Batch:
    """The batch with this number, once it is made."""
    await until(lambda: len(provider.made) >= count)
    return provider.made[count - 1]


async def answered(run: Running, *names: str) -> list[Reply]:
    await until(lambda: set(names) <= replies(run).keys())
    return [replies(run)[name] for name in names]


# The way through a batch


async def test_tasks_are_gathered_into_one_batch_and_answered_at_its_price(provider: Batches, start: Start) -> None:
    run = await start()
    deliver(run, "a", "b", "c")
    batch = await made(provider)
    assert batch.questions == ["a", "b", "c"]
    assert batch.metadata == {"forebay": "llm/model"}
    assert decode(run.published.commits()[P]).handed_over == {0, 1, 2}, "it is committed before the batch is made"
    assert run.attempts(P) == {}, "to wait is no attempt"
    provider.end(batch)
    for name, reply in zip("abc", await answered(run, "a", "b", "c"), strict=True):
        assert (reply.text, reply.cost, reply.model_id) == (f"answer to {name}", pytest.approx(IN_BATCH), "model")
    assert run.done(P) == (3, set())
    assert run.model.asked == {}
    assert run.count("forebay_worker_provider_batches_total", outcome="completed") == 1
    assert run.count("forebay_worker_provider_batch_answers_total", outcome="answered") == 3


async def test_a_batch_is_full_at_so_many_tasks_or_bytes(provider: Batches, start: Start) -> None:
    run = await start(max_tasks=2, gather_s=0.3)
    deliver(run, *"abcde")
    await made(provider, 3)
    assert [len(batch.lines) for batch in provider.made] == [2, 2, 1]
    await kill(run)
    run = await start(max_bytes=1_000, gather_s=0.3)
    deliver(run, *"fghijklm")
    await made(provider, 4)
    assert 0 < len(provider.made[3].lines) < 8


async def test_what_has_too_little_time_is_called_directly_at_full_price(provider: Batches, start: Start) -> None:
    run = await start()
    deliver(run, "a", deadline_ms=BEGAN_MS + HOUR_MS)
    deliver(run, "b", age_ms=20 * HOUR_MS)
    await run.asked("a", "b")
    run.model.answer("a", "b")
    assert [reply.cost for reply in await answered(run, "a", "b")] == [pytest.approx(DIRECT)] * 2
    assert provider.calls == []


async def test_json_that_is_none_is_asked_for_again_in_a_batch_and_both_are_paid_for(
    provider: Batches, start: Start
) -> None:
    run = await start()
    complete, texts = provider.completes, iter(["no JSON", '{"a": 1}'])

    def completes(asked: dict[str, Any]) -> dict[str, Any]:
        completion = complete(asked)
        completion["choices"][0]["message"]["content"] = next(texts)
        return completion

    provider.completes = completes
    deliver(run, "a", response_format='{"type": "json_object"}')
    first = await made(provider)
    provider.end(first)
    second = await made(provider, 2)
    assert second.lines[0]["custom_id"] == f"{first.lines[0]['custom_id']}-again"
    provider.end(second)
    (reply,) = await answered(run, "a")
    assert (reply.text, reply.hops, reply.cost) == ('{"a": 1}', 2, pytest.approx(2 * IN_BATCH))


async def test_a_rollouts_model_has_batches_of_its_own(provider: Batches, start: Start) -> None:
    run = await start()
    request = make_request(request_id="a", created_ms=BEGAN_MS, lane=Lane.BATCH)
    overrides = {"tiers.small.model": '"canary"'}
    run.batch.give(task_for(request, task_id="a", arm="canary@1", overrides=overrides))
    batch = await made(provider)
    assert (batch.metadata, batch.lines[0]["body"]["model"]) == ({"forebay": "llm/canary"}, "canary")
    provider.end(batch)
    (reply,) = await answered(run, "a")
    assert (reply.model_id, reply.arm) == ("canary", "canary@1")


async def test_more_is_read_as_soon_as_something_goes_into_a_batch(provider: Batches, start: Start) -> None:
    run = await start(outstanding=10)
    room = run.rooms[Lane.BATCH]
    while await room.wait(0.01):
        room.take()
    deliver(run, "a")
    await made(provider)
    assert await room.wait(0.01)


# Who comes after


async def test_who_takes_over_finds_what_was_handed_over_and_pays_for_nothing_twice(
    provider: Batches, start: Start
) -> None:
    first = await start()
    deliver(first, "a", "b")
    batch = await made(provider)
    deliver(first, "c")
    await until(lambda: {2} <= set(decode(first.published.commits()[P]).handed_over))
    await kill(first)
    provider.end(batch)
    second = await start()
    second.batch.stored[0] = first.published.commits()[P]
    second.batch.assign(0)
    deliver(second, "a", "b", "c", "d")
    provider.end(await made(provider, 2))
    assert [reply.text for reply in await answered(second, *"abcd")] == [f"answer to {name}" for name in "abcd"]
    assert sorted(provider.charged) == ["a", "b", "c", "d"]
    assert second.attempts(P) == {}
    assert second.count("forebay_worker_provider_batches_total", outcome="found") == 1


async def test_workers_of_two_partitions_wait_for_one_batch(provider: Batches, start: Start) -> None:
    first = await start()
    deliver(first, "a", "b")
    batch = await made(provider)
    moved = first.published.commits()[P]
    second = await start()
    second.batch.stored[0] = moved
    second.batch.assign(0)
    await first.batch.revoke(0)
    deliver(second, "a", "b")
    await until(lambda: second.count("forebay_worker_provider_batches_total", outcome="found") == 1)
    assert batch.status == "in_progress", "who leaves does not cancel it"
    provider.end(batch)
    await answered(second, "a", "b")
    assert (replies(first), provider.charged) == ({}, ["a", "b"])


async def test_a_partition_goes_only_when_the_batch_that_is_being_made_can_be_found(
    provider: Batches, start: Start
) -> None:
    gate = provider.gates["POST /batches"] = threading.Event()
    run = await start()
    deliver(run, "a")
    await until(lambda: "POST /batches" in provider.calls)
    gone = asyncio.create_task(run.batch.revoke(0))
    await asyncio.sleep(0.05)
    assert not gone.done()
    gate.set()
    await gone
    assert len(provider.made) == 1


# What befalls the provider


@pytest.mark.parametrize("status", [429, 503, 401])
@pytest.mark.parametrize("call", ["POST /files", "POST /batches", "GET /batches", "GET /files"])
async def test_a_provider_that_refuses_is_asked_again(provider: Batches, start: Start, call: str, status: int) -> None:
    provider.refuses[call] = [status, status]
    run = await start()
    deliver(run, "a")
    provider.end(await made(provider))
    (reply,) = await answered(run, "a")
    assert (reply.text, provider.charged, run.model.asked) == ("answer to a", ["a"], {})


@pytest.mark.parametrize("call", ["POST /files", "POST /batches"])
async def test_a_batch_that_was_made_without_an_answer_is_found(provider: Batches, start: Start, call: str) -> None:
    provider.refuses[call] = [0]
    provider.ends_at_once = True
    run = await start()
    deliver(run, "a", "b")
    await answered(run, "a", "b")
    assert (len(provider.made), provider.charged) == (1, ["a", "b"])


async def test_a_provider_that_refuses_for_days_is_still_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_batches, "LONGEST_PAUSE_S", 0.0)
    refusals = 0

    class Refusing:
        async def upload(self, _: bytes) -> str:
            nonlocal refusals
            refusals += 1
            await asyncio.sleep(0)
            raise BatchCallFailed("not now", 503)

    calls: Any = Refusing()
    metrics = WorkerMetrics(CollectorRegistry())
    batches = ProviderBatches("model", ProviderBatchesConfig(gather_s=0), calls, lambda _: {}, lambda *_: None, metrics)
    tier = TierConfig(complexity_up_to=1.0, model="model", max_tokens=9)
    line = BatchLine(line_id="a", until_s=asyncio.get_running_loop().time() + 3_600)
    request = dataclasses.replace(generation_request("a/0", make_request(), tier, Lane.BATCH), line=line)
    waiting = asyncio.create_task(batches.generate(request))
    await until(lambda: refusals > 1_100)  # 2 to the power of as many is no float
    assert not waiting.done()
    waiting.cancel()
    await batches.close()


# What befalls a batch


@pytest.mark.parametrize("status", ["expired", "cancelled"])
async def test_what_a_batch_ends_without_goes_into_another_one(provider: Batches, start: Start, status: str) -> None:
    run = await start()
    deliver(run, "a", "b", "c")
    provider.end(await made(provider), status, untouched=["b"])
    await answered(run, "a", "c")
    again = await made(provider, 2)
    assert again.questions == ["b"]
    provider.end(again)
    await answered(run, "b")
    assert sorted(provider.charged) == ["a", "b", "c"]


async def test_a_line_that_fails_is_an_attempt_and_the_next_one_is_a_call(provider: Batches, start: Start) -> None:
    run = await start()
    deliver(run, "a", "b", "c", "d")
    provider.end(await made(provider), failing={"b": (500, "oops"), "c": (400, "not this")}, untouched=["d"])
    (fine,) = await answered(run, "a")
    assert fine.error is None
    await run.asked("b", "d")
    await run.entered(P, 1)
    await run.until(lambda: run.attempts(P) == {1: 2, 3: 2})
    run.model.answer("b")
    b, c = await answered(run, "b", "c")
    assert b.cost == pytest.approx(DIRECT)
    assert c.error is not None
    assert (c.error.code, c.error.message) == ("engine_refused", "model refuses this request: not this")


async def test_a_line_of_which_a_complete_batch_says_nothing_has_failed(provider: Batches, start: Start) -> None:
    run = await start()
    deliver(run, "a", "b")
    provider.end(await made(provider), left_out=["b"])
    await answered(run, "a")
    await run.asked("b")
    await run.until(lambda: run.attempts(P) == {1: 2})
    run.model.answer("b")
    await answered(run, "b")
    assert len(provider.made) == 1


async def test_a_line_for_which_a_whole_batch_fails_is_an_attempt_and_holds_up_no_other(
    provider: Batches, start: Start
) -> None:
    run = await start()
    deliver(run, "a", "b", "c")
    provider.end(await made(provider), "failed", invalid={2: "a bad line"})
    await run.asked("b")
    again = await made(provider, 2)
    assert again.questions == ["a", "c"]
    provider.end(again)
    run.model.answer("b")
    await answered(run, "a", "b", "c")
    assert set(run.model.asked) == {"b"}


async def test_a_model_that_gives_no_logprobs_is_asked_for_none_in_the_next_batch(
    provider: Batches, start: Start
) -> None:
    run = await start()
    deliver(run, "a")
    batch = await made(provider)
    assert batch.lines[0]["body"]["logprobs"] is True
    provider.end(batch, failing={"a": (400, "logprobs are not supported")})
    again = await made(provider, 2)
    assert "logprobs" not in again.lines[0]["body"]
    provider.end(again)
    await answered(run, "a")
    assert run.model.asked == {}


# What befalls a task


async def test_a_batch_whose_task_presses_is_cancelled_and_what_it_left_is_called_directly(
    provider: Batches, start: Start
) -> None:
    run = await start(least_s=0)
    deliver(run, "a", "b", deadline_ms=BEGAN_MS + HOUR_MS)
    left_ms = time.time() * 1000 - BEGAN_MS + 3_000
    deliver(run, "c", deadline_ms=round(BEGAN_MS + 2 * left_ms))  # it presses at half of its time
    batch = await made(provider)
    await until(lambda: batch.status == "cancelling")
    provider.end(batch, "cancelled", untouched=["b", "c"])
    await answered(run, "a")
    await run.asked("c")
    provider.end(await made(provider, 2))
    run.model.answer("c")
    assert [reply.cost for reply in await answered(run, "a", "b", "c")] == [
        pytest.approx(cost) for cost in (IN_BATCH, IN_BATCH, DIRECT)
    ]
    assert (sorted(provider.charged), set(run.model.asked)) == (["a", "b"], {"c"})


@pytest.mark.parametrize("status", [401, 503])
async def test_a_batch_that_cannot_be_asked_for_is_left_when_a_task_presses_and_looked_for_by_the_others(
    provider: Batches, start: Start, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(batch_following, "LEFT_AFTER_S", 0.2)
    run = await start(least_s=0)
    deliver(run, "a", deadline_ms=BEGAN_MS + HOUR_MS)
    left_ms = time.time() * 1000 - BEGAN_MS + 2_000
    deliver(run, "b", deadline_ms=round(BEGAN_MS + 2 * left_ms))
    batch = await made(provider)
    provider.refuses["GET /batches"] = [status] * 10_000
    provider.refuses["POST /batches"] = [status] * 10_000
    await run.asked("b")
    run.model.answer("b")
    await answered(run, "b")
    provider.refuses.clear()
    provider.end(batch, untouched=["b"])
    assert [reply.cost for reply in await answered(run, "a", "b")] == [pytest.approx(IN_BATCH), pytest.approx(DIRECT)]
    assert provider.made == [batch]


async def test_a_batch_that_is_never_cancelled_is_left(
    provider: Batches, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_following, "LEFT_AFTER_S", 0.2)
    run = await start(least_s=0)
    left_ms = time.time() * 1000 - BEGAN_MS + 2_000
    deliver(run, "a", deadline_ms=round(BEGAN_MS + 2 * left_ms))
    batch = await made(provider)
    await run.asked("a")
    assert batch.status == "cancelling"


async def test_while_a_provider_takes_no_batches_tasks_wait_until_they_press(provider: Batches, start: Start) -> None:
    provider.refuses["POST /files"] = [503] * 10_000
    run = await start(least_s=0)
    deliver(run, "a", deadline_ms=BEGAN_MS + HOUR_MS)
    left_ms = time.time() * 1000 - BEGAN_MS + 500
    deliver(run, "b", deadline_ms=round(BEGAN_MS + 2 * left_ms))
    await run.asked("b")
    assert set(run.model.asked) == {"b"}
    assert run.count("forebay_worker_provider_batch_tasks", state="gathered") == 1


async def test_what_is_taken_back_is_answered_so_and_a_batch_of_nothing_else_is_cancelled(
    provider: Batches, start: Start
) -> None:
    run = await start()
    deliver(run, "a", "b", "c")
    batch = await made(provider)
    run.commands.cancel("a")
    run.commands.cancel("b")
    errors = [reply.error for reply in await answered(run, "a", "b")]
    assert [error and error.code for error in errors] == ["cancelled", "cancelled"]
    assert batch.status == "in_progress"
    run.commands.cancel("c")
    await until(lambda: batch.status == "cancelling")


@pytest.mark.parametrize("status", [429, 401, 409])
async def test_a_batch_that_nobody_wants_is_cancelled_although_the_provider_refuses_at_first(
    provider: Batches, start: Start, status: int
) -> None:
    run = await start()
    deliver(run, "a")
    batch = await made(provider)
    provider.refuses["POST /batches"] = [status, status]
    run.commands.cancel("a")
    await answered(run, "a")
    await until(lambda: batch.status == "cancelling")


async def test_what_is_taken_back_while_it_is_gathered_goes_into_no_batch(provider: Batches, start: Start) -> None:
    run = await start(gather_s=0.3)
    deliver(run, "a", "b")
    await until(lambda: run.count("forebay_worker_provider_batch_tasks", state="gathered") == 2)
    run.commands.cancel("a")
    await answered(run, "a")
    assert (await made(provider)).questions == ["b"]


async def test_what_leaves_while_its_file_is_kept_is_in_no_batch(provider: Batches, start: Start) -> None:
    gate = provider.gates["POST /files"] = threading.Event()
    run = await start()
    deliver(run, "a", "b")
    await until(lambda: "POST /files" in provider.calls)
    run.commands.cancel("a")
    await answered(run, "a")
    gate.set()
    assert (await made(provider)).questions == ["b"]
    assert "DELETE /files" in provider.calls


async def test_a_task_that_presses_while_its_batch_is_made_is_called_after_that(
    provider: Batches, start: Start
) -> None:
    gate = provider.gates["POST /batches"] = threading.Event()
    run = await start(least_s=0)
    left_ms = time.time() * 1000 - BEGAN_MS + 500
    deliver(run, "a", deadline_ms=round(BEGAN_MS + 2 * left_ms))
    await until(lambda: "POST /batches" in provider.calls)
    await until(lambda: time.time() * 1000 > BEGAN_MS + left_ms + 50)
    assert run.model.asked == {}
    gate.set()
    batch = await made(provider)
    await until(lambda: batch.status == "cancelling")
    provider.end(batch, "cancelled", untouched=["a"])
    await run.asked("a")


async def test_told_to_stop_a_worker_leaves_its_batches_to_others(provider: Batches, start: Start) -> None:
    run = await start()
    deliver(run, "a")
    batch = await made(provider)
    run.stop.set()
    await run.task
    assert (batch.status, replies(run)) == ("in_progress", {})
    assert decode(run.published.commits()[P]).handed_over == {0}
