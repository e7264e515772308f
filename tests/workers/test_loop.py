"""Who holds a task at each moment: nothing is committed early, published twice, or forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane
from forebay_workers.answer import Answerer
from forebay_workers.backends import EngineDead, GenerationError
from forebay_workers.lanes import Room
from forebay_workers.loop import Worker
from prometheus_client import CollectorRegistry

from .doubles import CODEC, Log, Model, Publications, configured

P = ("llm.tier.small", 0)
Q = ("llm.tier.small", 1)
B = ("llm.tier.small.batch", 0)

SETTINGS = """
[models.model]
price = { input_per_1k = 0.001, output_per_1k = 0.002 }
[tiers.small]
complexity_up_to = 0.5
model = "model"
max_tokens = 100
[tiers.large]
complexity_up_to = 1.0
model = "model"
max_tokens = 100
[worker]
commit_interval_ms = 1
drain_timeout_s = 30
"""


class Running:
    """A worker that runs, with everything around it in the test's hands."""

    def __init__(
        self, path: Path, concurrency: int, settings: str = SETTINGS, opened: asyncio.Event | None = None
    ) -> None:
        config = configured(settings, path)
        self.registry = CollectorRegistry()
        self.room = Room(64)
        self.model = Model(concurrency=concurrency)
        self.small = Log("small", take=self.room.take)
        self.batch = Log("small", Lane.BATCH, take=self.room.take)
        self.large = Log("large", take=self.room.take)
        self.published = Publications(opened=opened)
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.worker = Worker(
            config.worker,
            {"small": self.model, "large": self.model},
            [self.small, self.batch, self.large],
            self.published,
            Answerer(config, CODEC),
            self.room,
            WorkerMetrics(self.registry),
        )
        self.task = asyncio.create_task(self.worker.run(self.stop, self.ready.set))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def asked(self, *task_ids: str) -> None:
        await self.until(lambda: set(task_ids) <= set(self.model.asked))

    async def committed(self, count: int) -> None:
        await self.until(lambda: len(self.published.replies()) == count)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Running] = []

    async def start(concurrency: int = 8, settings: str = SETTINGS) -> Running:
        running.append(Running(tmp_path, concurrency, settings))
        await running[-1].ready.wait()
        return running[-1]

    yield start
    for each in running:
        each.task.cancel()
        with contextlib.suppress(BaseException):
            await each.task


def drawn(**fields: Any) -> str:
    """The settings with some lines replaced."""
    text = SETTINGS
    for name, value in fields.items():
        text = "\n".join(f"{name} = {value}" if line.startswith(f"{name} =") else line for line in text.splitlines())
    return text


async def test_an_answer_is_committed_with_its_offset(start: Start) -> None:
    run = await start()
    run.small.deliver("a", offset=7)
    await run.asked("a")
    run.model.answer("a")
    await run.committed(1)
    (share,) = run.published.committed
    assert (share.group, share.offsets) == (run.small.group, {P: 8})
    assert [record.topic for record in share.records] == ["llm.replies", "llm.results"]


async def test_a_reply_does_not_wait_for_an_earlier_task_but_the_offset_does(start: Start) -> None:
    run = await start()
    run.small.deliver("slow", offset=0)
    run.small.deliver("fast", offset=1)
    await run.asked("slow", "fast")
    run.model.answer("fast")
    await run.committed(1)
    assert run.published.offsets() == {}
    run.model.answer("slow")
    await run.committed(2)
    assert run.published.offsets() == {P: 2}


async def test_what_finishes_together_is_one_transaction(start: Start) -> None:
    run = await start()
    for offset, task_id in enumerate("abc"):
        run.small.deliver(task_id, offset=offset)
    run.large.deliver("d")
    await run.asked(*"abcd")
    run.model.answer(*"abcd")
    await run.committed(4)
    assert run.published.begun == 1
    assert run.published.offsets() == {P: 3, ("llm.tier.large", 0): 1}


async def test_no_more_tasks_run_than_the_model_takes_at_once(start: Start) -> None:
    run = await start(concurrency=2)
    for offset, task_id in enumerate("abc"):
        run.small.deliver(task_id, offset=offset)
    await run.asked("a", "b")
    assert run.count("forebay_worker_inflight") == 2
    assert "c" not in run.model.asked
    run.model.answer("a")
    await run.asked("c")


async def test_a_tier_that_shares_a_model_shares_its_concurrency(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("a")
    run.large.deliver("b")
    await run.asked("a")
    assert "b" not in run.model.asked
    run.model.answer("a")
    await run.asked("b")


async def test_interactive_tasks_start_first_when_both_wait(start: Start) -> None:
    run = await start(concurrency=1)
    run.batch.deliver("running")
    await run.asked("running")
    run.batch.deliver("batch", offset=1)
    run.small.deliver("interactive")
    run.model.answer("running")
    await run.asked("interactive")
    assert "batch" not in run.model.asked


async def test_an_error_is_committed_like_an_answer_and_the_next_task_is_unharmed(start: Start) -> None:
    run = await start()
    run.small.deliver("bad", offset=0)
    run.small.deliver("good", offset=1)
    await run.asked("bad", "good")
    run.model.fail("bad", GenerationError(ErrorCode.ENGINE_REFUSED, "no"))
    run.model.answer("good")
    await run.committed(2)
    assert run.published.offsets() == {P: 2}
    replies = "forebay_worker_replies_total"
    assert run.count(replies, tier="small", lane="interactive", outcome="engine_refused") == 1
    assert run.count(replies, tier="small", lane="interactive", outcome="ok") == 1


async def test_places_come_back_when_the_outcome_is_committed_and_not_before(start: Start) -> None:
    run = await start()
    run.published.gate = asyncio.Event()
    free = 64
    for offset in range(free):
        run.small.deliver(f"t{offset}", offset=offset)
    await run.asked("t0")
    run.model.answer("t0")
    await run.until(lambda: run.published.begun == 1)
    assert not run.room.free(Lane.INTERACTIVE)
    run.published.gate.set()
    await run.committed(1)
    assert run.room.free(Lane.INTERACTIVE)


async def test_a_share_that_was_refused_is_tried_again_without_a_second_generation(start: Start) -> None:
    run = await start()
    run.published.refuse = {run.small.topic}
    run.small.deliver("a")
    run.large.deliver("b")
    await run.asked("a", "b")
    run.model.answer("a", "b")
    await run.until(lambda: run.small.refreshed > 0)
    assert run.published.offsets() == {("llm.tier.large", 0): 1}, "a rebalance of one tier holds up no other"
    run.published.refuse = set()
    await run.committed(2)
    assert run.published.offsets()[P] == 1
    assert run.count("forebay_worker_commits_total", outcome="aborted") >= 1


async def test_what_is_finished_is_committed_before_its_partition_is_given_up(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    await run.asked("a")
    run.published.gate = asyncio.Event()
    run.model.answer("a")
    await run.until(lambda: run.published.begun == 1)
    revoking = asyncio.create_task(run.small.revoke(0))
    await asyncio.sleep(0)
    assert not revoking.done(), "the rebalance waits for the transaction"
    run.published.gate.set()
    await revoking
    assert run.published.offsets() == {P: 1}


async def test_what_runs_when_its_partition_is_revoked_is_stopped_and_never_published(start: Start) -> None:
    run = await start()
    run.small.deliver("gone", partition=0)
    run.small.deliver("kept", partition=1)
    await run.asked("gone", "kept")
    await run.small.revoke(0)
    await run.until(lambda: run.model.cancelled == ["gone"])
    run.model.answer("kept")
    await run.committed(1)
    assert run.published.offsets() == {Q: 1}


async def test_a_refused_share_dies_with_its_partition(start: Start) -> None:
    run = await start()
    run.published.refuse = {run.small.topic}
    run.small.deliver("a")
    await run.asked("a")
    run.model.answer("a")
    await run.until(lambda: run.small.refreshed > 0)
    await run.small.revoke(0)
    run.published.refuse = set()
    run.small.deliver("b", partition=1)
    await run.asked("b")
    run.model.answer("b")
    await run.until(lambda: Q in run.published.offsets())
    assert P not in run.published.offsets()
    assert len(run.published.replies()) == 1


async def test_nothing_of_a_lost_partition_is_published(start: Start) -> None:
    run = await start()
    run.small.deliver("waiting for a commit")
    await run.asked("waiting for a commit")
    run.published.refuse = {run.small.topic}
    run.model.answer("waiting for a commit")
    await run.until(lambda: run.small.refreshed > 0)
    await run.small.lose(0)
    begun = run.published.begun
    run.published.refuse = set()
    await asyncio.sleep(0.15)
    assert run.published.begun == begun
    assert run.published.replies() == []


async def test_a_partition_that_comes_back_is_read_again_from_its_committed_offset(start: Start) -> None:
    run = await start()
    run.small.deliver("a", offset=5)
    await run.asked("a")
    await run.small.revoke(0)
    run.small.deliver("a again", offset=5)
    await run.asked("a again")
    run.model.answer("a again")
    await run.committed(1)
    assert run.published.offsets() == {P: 6}


async def test_dropped_tasks_make_place_for_waiting_ones(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("gone", partition=0)
    run.small.deliver("next", partition=1)
    await run.asked("gone")
    await run.small.revoke(0)
    await run.asked("next")


async def test_told_to_stop_it_finishes_what_runs_commits_it_and_leaves(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    run.small.deliver("waiting", offset=1)
    await run.asked("running")
    run.stop.set()
    await run.until(lambda: not run.room.free(Lane.INTERACTIVE))
    run.model.answer("running")
    await run.task
    assert run.published.offsets() == {P: 1}
    assert "waiting" not in run.model.asked
    assert all(log.closed for log in (run.small, run.batch, run.large))


async def test_told_to_stop_it_does_not_wait_for_ever(start: Start) -> None:
    run = await start(settings=drawn(drain_timeout_s=0.01))
    run.small.deliver("endless")
    await run.asked("endless")
    run.stop.set()
    await run.task
    assert run.published.replies() == []
    assert run.model.cancelled == ["endless"]


async def test_told_to_stop_while_the_brokers_are_away_it_leaves(tmp_path: Path) -> None:
    run = Running(tmp_path, concurrency=1, opened=asyncio.Event())
    await asyncio.sleep(0)
    run.stop.set()
    await run.task
    assert not run.ready.is_set()


async def test_with_a_dead_engine_it_ends_and_commits_nothing(start: Start) -> None:
    run = await start()
    run.published.gate = asyncio.Event()
    run.small.deliver("a")
    await run.asked("a")
    run.model.fail("a", EngineDead("the engine of model has died"))
    with pytest.raises(EngineDead):
        await run.task
    assert run.published.begun == 0


async def test_with_a_publisher_of_no_use_it_ends(start: Start) -> None:
    run = await start()
    run.published.broken = RuntimeError("fenced")
    run.small.deliver("a")
    await run.asked("a")
    run.model.answer("a")
    with pytest.raises(RuntimeError, match="fenced"):
        await run.task


async def test_with_a_consumer_of_no_use_it_ends(start: Start) -> None:
    run = await start()
    run.large.break_down(RuntimeError("out of the group"))
    with pytest.raises(RuntimeError, match="out of the group"):
        await run.task
    assert run.small.closed
