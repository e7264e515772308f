"""Who holds a task at each moment: nothing is committed early, published twice, or forgotten."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from forebay_schemas.batches import batch_id, row_id
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import DeadLetter, Lane, Reply, Request, Result
from forebay_workers import admission, lanes, loop, undeliverable
from forebay_workers.backends import EngineDead, GenerationError, Unavailable
from forebay_workers.durations import Durations
from forebay_workers.intake import TopicMadeAnew
from forebay_workers.lanes import batch_name
from forebay_workers.loop import stream_number
from forebay_workers.offsets import WINDOW, Commit, Known, encode

from .doubles import CODEC
from .running import SETTINGS, Running

P = ("llm.tier.small", 0)
Q = ("llm.tier.small", 1)
B = ("llm.tier.small.batch", 0)

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
    entered, share = run.published.committed
    assert (entered.records, entered.commits) == ([], {P: Commit(7, encode(Known(attempts={7: 1}), 7))})
    assert (share.group, share.commits) == (run.small.group, {P: Commit(8, "")})
    assert [record.topic for record in share.records] == ["llm.replies", "llm.results"]


async def test_a_reply_does_not_wait_for_an_earlier_task_and_is_known_behind_it(start: Start) -> None:
    run = await start()
    run.small.deliver("slow", offset=0)
    run.small.deliver("fast", offset=1)
    await run.asked("slow", "fast")
    run.model.answer("fast")
    await run.committed(1)
    assert run.done(P) == (0, {1})
    run.model.answer("slow")
    await run.committed(2)
    assert run.published.offsets() == {P: 2}


async def test_what_finishes_together_is_one_transaction(start: Start) -> None:
    run = await start()
    for offset, task_id in enumerate("abc"):
        run.small.deliver(task_id, offset=offset)
    run.large.deliver("d")
    await run.asked(*"abcd")
    begun = run.published.begun
    run.model.answer(*"abcd")
    await run.committed(4)
    assert run.published.begun == begun + 1
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
    await run.asked("interactive")
    run.model.answer("interactive")
    await run.until(lambda: run.model.held == [])
    assert "batch" not in run.model.asked, "the one that rested comes first"


async def test_batch_work_waits_for_a_model_that_is_left_alone_and_interactive_work_does_not(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CLOCK_CHECK_S", 0.01)
    run = await start()
    for offset, task_id in enumerate("ab"):
        run.batch.deliver(task_id, offset=offset)
    await run.asked("a", "b")
    run.model.takes = 0
    run.model.fail("a", Unavailable("left alone"))
    run.model.fail("b", Unavailable("left alone"))
    run.small.deliver("interactive")
    await run.asked("interactive")
    run.model.fail("interactive", Unavailable("left alone"))
    await run.committed(1)
    assert run.model.generations == ["a/0/1", "b/0/1", "interactive/0/1"]
    run.model.takes = 1
    await run.until(lambda: len(run.model.generations) == 4)
    run.model.takes = 8
    await run.until(lambda: len(run.model.generations) == 5)
    assert sorted(run.model.generations[3:]) == ["a/0/1", "b/0/1"], "the attempts that were none do not count"
    run.model.answer("a", "b")
    await run.committed(3)


async def test_what_ended_while_it_rested_is_released(start: Start) -> None:
    run = await start(concurrency=1)
    run.batch.deliver("resting")
    await run.asked("resting")
    run.small.deliver("interactive")
    await run.until(lambda: run.model.held == ["resting"])
    run.commands.cancel("resting")
    await run.until(lambda: run.model.held == [])


async def test_an_error_is_committed_like_an_answer_and_the_next_task_is_unharmed(start: Start) -> None:
    run = await start()
    run.small.deliver("bad", offset=0)
    run.small.deliver("good", offset=1)
    await run.asked("bad", "good")
    run.model.fail("bad", GenerationError(ErrorCode.ENGINE_REFUSED, "no"))
    run.model.answer("good")
    await run.committed(2)
    assert run.published.offsets() == {P: 2}
    replies = "forebay_replies_total"
    assert run.count(replies, tier="small", lane="interactive", outcome="engine_refused") == 1
    assert run.count(replies, tier="small", lane="interactive", outcome="ok") == 1


async def test_places_come_back_when_the_outcome_is_committed_and_not_before(start: Start) -> None:
    run = await start()
    room = run.rooms[Lane.INTERACTIVE]
    for offset in range(64):
        run.small.deliver(f"t{offset}", offset=offset)
    await run.asked("t0")
    run.published.gate = asyncio.Event()
    begun = run.published.begun
    run.model.answer("t0")
    await run.until(lambda: run.published.begun == begun + 1)
    assert not await room.wait(0)
    run.published.gate.set()
    await run.committed(1)
    assert await room.wait(5)


async def test_a_share_that_was_refused_is_tried_again_without_a_second_generation(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    run.large.deliver("b")
    await run.asked("a", "b")
    run.published.refuse = {run.small.topic}
    run.model.answer("a", "b")
    await run.until(lambda: run.small.refreshed > 0)
    assert run.published.offsets() == {P: 0, ("llm.tier.large", 0): 1}, "a rebalance of one tier holds up no other"
    run.published.refuse = set()
    await run.committed(2)
    assert run.published.offsets()[P] == 1
    assert run.count("forebay_worker_commits_total", outcome="aborted") >= 1


async def test_what_the_brokers_refuse_for_good_holds_up_the_others_no_longer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undeliverable, "PATIENCE_S", 0.2)
    run = await start(settings=SETTINGS + '[kafka]\nreply_topics = ["acme.gone"]\n')
    run.published.gone = {"acme.gone"}
    run.small.deliver("a", to="acme.gone")
    run.small.deliver("b", offset=1)
    await run.asked("a", "b")
    run.model.answer("a", "b")
    await run.until(lambda: run.published.offsets().get(P) == 2)
    records = [record for share in run.published.committed for record in share.records]
    (letter,) = [CODEC.decode(record.value, DeadLetter) for record in records if record.topic == "llm.requests.dead"]
    assert (letter.code, letter.offset) == ("undeliverable", 0)
    assert "acme.gone (unknown topic)" in letter.reason
    results = [CODEC.decode(record.value, Result).task_id for record in records if record.topic == "llm.results"]
    assert sorted(results) == ["a", "b"], "the answer was paid for, and others may wait for it"


async def test_a_record_that_its_topic_does_not_take_is_left_out_and_no_other(start: Start) -> None:
    run = await start()
    run.published.rejects = lambda record: record.topic == "llm.replies" and b"much" in record.value
    run.small.deliver("a", offset=0)
    run.small.deliver("b", offset=1)
    await run.asked("a", "b")
    run.model.answer("a", text="much")
    run.model.answer("b")
    await run.until(lambda: run.published.offsets().get(P) == 2)
    records = [record for share in run.published.committed for record in share.records]
    (letter,) = [CODEC.decode(record.value, DeadLetter) for record in records if record.topic == "llm.requests.dead"]
    assert (letter.code, letter.offset) == ("undeliverable", 0)
    assert len(run.published.replies()) == 1


@pytest.mark.parametrize("leaves", ["revoked", "told to stop"])
async def test_who_leaves_leaves_what_is_refused_just_now_to_others_and_gives_nothing_up(
    start: Start, leaves: str
) -> None:
    run = await start(settings=SETTINGS + '[kafka]\nreply_topics = ["acme.away"]\n')
    run.published.gone = {"acme.away"}
    run.small.deliver("left", offset=0, to="acme.away")
    run.small.deliver("told", offset=1)
    run.small.deliver("waits", partition=1, to="acme.away")
    await run.asked("left", "told", "waits")
    begun = run.published.begun
    run.model.answer("left", "told", "waits")
    await run.until(lambda: run.published.begun > begun)
    if leaves == "revoked":
        await run.small.revoke(0)
        run.published.gone = set()
        await run.until(lambda: run.published.offsets().get(Q) == 1)
    else:
        run.stop.set()
        await run.task
        assert run.done(Q) == (0, set())
    assert run.done(P) == (0, {1})
    assert run.attempts(P) == {}
    topics = [record.topic for share in run.published.committed for record in share.records]
    assert "llm.replies" in topics
    assert "llm.requests.dead" not in topics


async def test_without_its_dead_letters_a_worker_waits_for_its_operator(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undeliverable, "PATIENCE_S", 0.0)
    run = await start()
    run.published.gone = {"llm.replies", "llm.requests.dead"}
    run.small.deliver("a")
    await run.asked("a")
    run.model.answer("a")
    begun = run.published.begun
    await run.until(lambda: run.published.begun > begun + 3)
    run.published.gone = {"llm.replies"}
    await run.until(lambda: run.published.offsets().get(P) == 1)


async def test_what_is_finished_is_committed_before_its_partition_is_given_up(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    await run.asked("a")
    run.published.gate = asyncio.Event()
    begun = run.published.begun
    run.model.answer("a")
    await run.until(lambda: run.published.begun == begun + 1)
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
    assert run.published.offsets() == {P: 0, Q: 1}
    assert run.attempts(P) == {}, "it was no fault of the task's"


async def test_a_refused_share_dies_with_its_partition(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    await run.asked("a")
    run.published.refuse = {run.small.topic}
    run.model.answer("a")
    await run.until(lambda: run.small.refreshed > 0)
    await run.small.revoke(0)
    run.published.refuse = set()
    run.small.deliver("b", partition=1)
    await run.asked("b")
    run.model.answer("b")
    await run.until(lambda: run.published.offsets().get(Q) == 1)
    assert run.published.offsets()[P] == 0
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
    run.small.assign(0)
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
    while await run.rooms[Lane.INTERACTIVE].wait(0):  # it takes nothing more
        await asyncio.sleep(0.001)
    run.model.answer("running")
    await run.task
    assert run.done(P) == (1, set())
    assert run.attempts(P) == {}, "what only waited has no attempt"
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


async def test_with_a_dead_engine_it_ends_and_commits_what_is_finished_and_no_more(start: Start) -> None:
    run = await start()
    run.small.deliver("finished", offset=0)
    run.small.deliver("dead", offset=1)
    run.small.deliver("beside", offset=2)
    await run.asked("finished", "dead", "beside")
    run.published.refuse = {run.small.topic}
    run.model.answer("finished")
    await run.until(lambda: run.small.refreshed > 0)
    run.published.refuse = set()
    run.model.fail("dead", EngineDead("the engine of model has died"))
    with pytest.raises(EngineDead):
        await run.task
    assert len(run.published.replies()) == 1
    assert run.done(P) == (1, set())
    assert run.attempts(P) == {1: 1, 2: 1}, "whoever begins again knows what ran when it died"


async def test_after_a_fatal_error_of_the_publisher_it_connects_anew_and_begins_where_the_commit_ends(
    start: Start,
) -> None:
    run = await start()
    run.small.deliver("a", offset=0)
    await run.asked("a")
    before = run.small
    run.published.broken = KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "nobody knows", fatal=True))
    run.model.answer("a")
    await run.until(lambda: run.connections == 2)
    run.published.broken = None
    await run.until(lambda: before.closed)
    await run.until(lambda: hasattr(run.small, "owner"))
    after(run, {0: 1})
    run.small.deliver("a", offset=0)
    await run.until(lambda: len(run.model.generations) == 2)
    run.model.answer("a")
    await run.committed(1)
    assert run.done(P) == (1, set())


async def test_when_a_topic_was_made_anew_it_connects_anew_though_nothing_was_committed_yet(start: Start) -> None:
    run = await start()
    run.small.break_down(TopicMadeAnew(KafkaError(KafkaError.UNKNOWN_TOPIC_ID, "it was deleted and made anew")))
    await run.until(lambda: run.connections == 2)
    await run.until(lambda: hasattr(run.small, "owner"))
    after(run, {})
    run.small.deliver("a", offset=0)
    await run.asked("a")
    run.model.answer("a")
    await run.committed(1)


async def test_brokers_that_refuse_everything_end_it(start: Start) -> None:
    run = await start()
    run.published.broken = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no", fatal=True))
    run.small.deliver("a")
    with pytest.raises(KafkaException, match="no"):
        await run.task


async def test_with_a_publisher_of_no_use_it_ends(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    await run.asked("a")
    run.published.broken = RuntimeError("fenced")
    run.model.answer("a")
    with pytest.raises(RuntimeError, match="fenced"):
        await run.task


async def test_with_a_consumer_of_no_use_it_ends(start: Start) -> None:
    run = await start()
    run.large.break_down(RuntimeError("out of the group"))
    with pytest.raises(RuntimeError, match="out of the group"):
        await run.task
    assert run.small.closed


# Attempts


def after(run: Running, attempts: dict[int, int], offset: int = 0, done: set[int] | None = None) -> None:
    """A predecessor left this of the first partition."""
    run.small.stored[0] = Commit(offset, encode(Known(done or set(), attempts), offset))
    run.small.assign(0)


async def test_nothing_is_generated_before_its_attempt_is_committed(start: Start) -> None:
    run = await start()
    run.published.refuse = {run.small.topic}
    run.small.deliver("a")
    await run.until(lambda: run.small.refreshed > 0)
    assert run.model.generations == []
    run.published.refuse = set()
    await run.asked("a")
    assert run.attempts(P) == {0: 1}


async def test_an_engines_failure_is_tried_again_and_each_attempt_is_counted_first(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    await run.asked("a")
    run.model.fail("a", GenerationError(ErrorCode.ENGINE_FAILED, "out of memory"))
    await run.until(lambda: len(run.model.generations) == 2)
    assert run.attempts(P) == {0: 2}
    run.model.answer("a")
    await run.committed(1)
    assert run.published.offsets() == {P: 1}


async def test_a_task_that_always_fails_goes_to_the_dead_letters_with_its_history(start: Start) -> None:
    run = await start()
    run.small.deliver("a")
    for attempt in (1, 2, 3):
        await run.until(lambda attempt=attempt: len([one for one in run.model.generations if one[0] == "a"]) == attempt)
        run.model.fail("a", GenerationError(ErrorCode.ENGINE_FAILED, "out of memory"))
    await run.committed(1)
    records = [record for share in run.published.committed for record in share.records]
    (letter,) = [CODEC.decode(record.value, DeadLetter) for record in records if record.topic == "llm.requests.dead"]
    (reply,) = [CODEC.decode(record.value, Reply) for record in records if record.topic == "llm.replies"]
    assert (letter.code, letter.attempts, len(letter.history)) == ("given_up", 3, 3)
    assert all("out of memory" in line for line in letter.history)
    assert reply.error is not None
    assert reply.error.code == "given_up"
    run.small.deliver("next", offset=1)
    await run.asked("next")
    run.model.answer("next")
    await run.committed(2)


async def test_a_task_that_ended_as_many_workers_as_it_may_is_never_generated_again(start: Start) -> None:
    run = await start()
    after(run, {0: 3})
    run.small.deliver("killer", offset=0)
    await run.committed(1)
    assert run.model.generations == []
    assert run.count("forebay_replies_total", tier="small", lane="interactive", outcome="given_up") == 1


async def test_before_its_last_attempt_a_suspect_runs_alone_so_that_no_other_is_blamed(start: Start) -> None:
    run = await start()
    run.large.deliver("running")
    await run.asked("running")
    after(run, {0: 2, 1: 2})
    run.small.deliver("suspect", offset=0)
    run.small.deliver("another", offset=1)
    run.small.deliver("fresh", offset=2)
    assert set(run.model.asked) == {"running"}
    run.model.answer("running")
    await run.asked("suspect")
    assert run.attempts(P) == {0: 3, 1: 2}
    assert set(run.model.asked) == {"running", "suspect"}
    run.model.answer("suspect")
    await run.asked("another")
    assert "fresh" not in run.model.asked
    run.model.answer("another")
    await run.asked("fresh")


async def test_what_rests_goes_on_so_that_a_suspect_gets_its_turn(start: Start) -> None:
    run = await start(concurrency=1)
    run.batch.deliver("batch")
    await run.asked("batch")
    run.large.deliver("interactive")
    await run.asked("interactive")
    assert run.model.held == ["batch"]
    after(run, {0: 2})
    run.small.deliver("suspect", offset=0)
    await run.until(lambda: run.model.held == [])
    run.model.answer("interactive", "batch")
    await run.asked("suspect")
    run.model.answer("suspect")
    await run.committed(3)


async def test_attempts_that_ended_with_a_connection_are_no_fault_of_the_tasks(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    run.small.deliver("waiting", offset=1)
    await run.asked("running")
    await run.small.lose(0)
    after(run, {0: 2, 1: 1})  # as it was stored, and another worker had both meanwhile
    run.small.deliver("running", offset=0)
    run.small.deliver("waiting", offset=1)
    await run.until(lambda: run.model.generations[1:] == ["running/0/2"])
    run.model.answer("running")
    await run.until(lambda: run.model.generations[2:] == ["waiting/0/2"])


async def test_what_only_waited_when_its_worker_died_is_not_to_blame(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    run.small.deliver("waiting", offset=1)
    await run.asked("running")
    run.large.deliver("something else to commit")
    run.model.fail("running", EngineDead("killed"))
    with pytest.raises(EngineDead):
        await run.task
    assert run.attempts(P) == {0: 1}


async def test_those_that_were_begun_before_run_again_among_few(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "TRIED_AT_ONCE", 2)
    run = await start()
    after(run, dict.fromkeys(range(4), 1))
    for offset in range(6):
        run.small.deliver(f"t{offset}", offset=offset)
    await run.asked("t0", "t1", "t4", "t5")
    assert run.attempts(P) == {0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
    run.model.answer("t0")
    await run.asked("t2")
    assert "t3" not in run.model.asked


async def test_a_log_whose_records_were_removed_goes_on_behind_the_gap(start: Start) -> None:
    run = await start()
    after(run, {}, offset=3)
    run.small.deliver("a", offset=3 + 2 * WINDOW)
    await run.asked("a")
    run.model.answer("a")
    await run.committed(1)
    assert run.done(P) == (4 + 2 * WINDOW, set())


async def test_what_a_predecessor_published_is_not_generated_again(start: Start) -> None:
    run = await start()
    after(run, {5: 1}, offset=5, done={6, 8})
    for offset in (5, 6, 7, 8):
        run.small.deliver(f"t{offset}", offset=offset)
    await run.asked("t5", "t7")
    run.model.answer("t5", "t7")
    await run.committed(2)
    assert run.done(P) == (9, set())
    assert set(run.model.asked) == {"t5", "t7"}


async def test_a_task_that_the_job_wrote_twice_is_generated_once(start: Start) -> None:
    run = await start()
    run.small.assign(0).is_repeat(P, "from before/0")  # as the intake reads it back from the log
    run.small.deliver("from before", offset=3)
    run.small.deliver("a", offset=4)
    run.small.deliver("a", offset=5)
    await run.asked("a")
    run.model.answer("a")
    await run.committed(1)
    assert run.done(P) == (6, set())
    assert run.model.generations == ["a/0/1"]
    assert run.count("forebay_worker_repeated_tasks_total") == 2


# Lanes, streams and cancellations


async def test_batch_generations_rest_while_interactive_ones_run(start: Start) -> None:
    run = await start(concurrency=1)
    run.batch.deliver("batch")
    await run.asked("batch")
    run.small.deliver("interactive")
    await run.asked("interactive")
    assert run.model.held == ["batch"]
    assert run.count("forebay_worker_held") == 1
    run.model.answer("interactive")
    await run.until(lambda: run.model.held == [])
    run.model.answer("batch")
    await run.committed(2)


async def test_a_full_batch_lane_leaves_interactive_places(start: Start) -> None:
    run = await start()
    for offset in range(64):
        run.batch.deliver(f"b{offset}", offset=offset)
    assert not await run.rooms[Lane.BATCH].wait(0)
    assert await run.rooms[Lane.INTERACTIVE].wait(0)


async def test_only_who_asks_for_it_is_told_the_answer_piece_by_piece(start: Start) -> None:
    run = await start()
    run.small.deliver("quiet", offset=0)
    run.small.deliver("aloud", offset=1, stream=True)
    await run.asked("quiet", "aloud")
    run.model.answer("quiet", "aloud")
    await run.committed(2)
    (stream,) = run.streams.made
    assert (stream.pieces, stream.finished) == (["answer "], True)


async def test_a_task_that_is_taken_back_while_it_runs_is_stopped_and_told_so(start: Start) -> None:
    run = await start()
    run.small.deliver("a", offset=0)
    run.small.deliver("b", offset=1)
    await run.asked("a", "b")
    run.commands.cancel("a")
    await run.committed(1)
    assert run.model.cancelled == ["a"]
    assert run.count("forebay_replies_total", tier="small", lane="interactive", outcome="cancelled") == 1
    assert run.count("forebay_worker_tokens_total", tier="small", kind="completion") == 1  # of the one cut short
    run.model.answer("b")
    await run.committed(2)
    assert run.done(P) == (2, set())


async def test_a_task_that_is_taken_back_before_its_generation_takes_a_step_is_told_so(start: Start) -> None:
    run = await start()
    run.small.deliver("a", offset=0)
    async with asyncio.timeout(5):
        while not run.count("forebay_worker_inflight"):
            await asyncio.sleep(0)
    run.commands.cancel("a")
    await run.committed(1)
    assert run.model.asked == {}


async def test_a_task_that_is_taken_back_before_it_runs_is_never_generated(start: Start) -> None:
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    run.small.deliver("waiting", offset=1)
    await run.asked("running")
    run.commands.cancel("waiting")
    await run.committed(1)
    run.commands.cancel("not here yet")
    run.small.deliver("not here yet", offset=2)
    run.model.answer("running")
    await run.committed(3)
    assert set(run.model.asked) == {"running"}


async def test_a_batch_that_is_taken_back_ends_wherever_its_tasks_are(start: Start) -> None:
    run = await start(concurrency=2)
    batch = batch_id("ab" * 32)
    run.small.deliver("running", offset=0, request_id=row_id(batch, 1))
    run.small.deliver("other", offset=1, request_id=row_id(batch_id("cd" * 32), 1))
    run.small.deliver("waiting", offset=2, request_id=row_id(batch, 2))
    await run.asked("running", "other")
    run.commands.cancel(batch_name("acme", batch))
    await run.committed(2)
    run.small.deliver("not here yet", offset=3, request_id=row_id(batch, 3))
    await run.committed(3)
    assert run.model.cancelled == ["running"]
    assert set(run.model.asked) == {"running", "other"}


async def test_whose_time_is_over_while_it_waits_is_told_so_before_its_turn(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CLOCK_CHECK_S", 0.01)
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    await run.asked("running")
    now_ms = round(time.time() * 1000)
    run.small.deliver("late", offset=1, deadline_ms=now_ms + 50)
    run.small.deliver("in time", offset=2, deadline_ms=now_ms + 60_000)
    await run.committed(1)
    assert run.count("forebay_replies_total", tier="small", lane="interactive", outcome="deadline_exceeded") == 1
    run.model.answer("running")
    await run.asked("in time")
    assert "late" not in run.model.asked


async def test_who_is_late_already_is_told_so_without_an_attempt(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CLOCK_CHECK_S", 3_600)
    run = await start(concurrency=1)
    run.small.deliver("running", offset=0)
    await run.asked("running")
    run.small.deliver("late", offset=1, deadline_ms=round(time.time() * 1000) - 1)
    await run.committed(1)
    assert run.count("forebay_replies_total", tier="small", lane="interactive", outcome="deadline_exceeded") == 1
    assert run.done(P) == (0, {1})


async def test_who_is_late_keeps_no_place_from_others_while_that_is_committed(start: Start) -> None:
    run = await start(concurrency=1)
    run.published.gate = asyncio.Event()
    places = 64
    for offset in range(places):
        run.small.deliver(f"late-{offset}", offset=offset, deadline_ms=1)
    assert await run.rooms[Lane.INTERACTIVE].wait(1)
    run.published.gate.set()
    await run.committed(places)
    for offset in range(places, 2 * places):  # nor a place among those that are set aside
        run.small.deliver(f"late-{offset}", offset=offset, deadline_ms=1)
        await run.committed(offset + 1)
    assert await run.rooms[Lane.INTERACTIVE].wait(1)


async def test_under_more_than_a_model_can_do_nobody_gets_a_place_whose_time_is_hardly_enough(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TenSecondsMore(Durations):
        def took(self, tier: str, request: Request, ms: float, *, cut_short: bool = False) -> None:
            super().took(tier, request, 10_000 + ms, cut_short=cut_short)

    monkeypatch.setattr(lanes, "Durations", TenSecondsMore)
    run = await start(concurrency=1)
    for offset in range(10):
        run.small.deliver(f"a{offset}", offset=offset)
        await run.asked(f"a{offset}")
        run.model.answer(f"a{offset}")
        await run.committed(offset + 1)
    run.small.deliver("running", offset=10)
    await run.asked("running")
    now_ms = round(time.time() * 1000)
    run.small.deliver("hopeless", offset=11, created_ms=now_ms - 60_000, deadline_ms=now_ms + 9_000)
    run.small.deliver("in time", offset=12, created_ms=now_ms - 60_000, deadline_ms=now_ms + 60_000)
    await run.committed(11)
    errors = [
        reply.error
        for share in run.published.committed
        for record in share.records
        if record.topic == "llm.replies" and (reply := CODEC.decode(record.value, Reply)).error
    ]
    assert [error.code for error in errors if error] == [ErrorCode.DEADLINE_EXCEEDED]
    assert "others wait for the model" in str(errors[0])
    run.model.answer("running")
    await run.asked("in time")
    assert "hopeless" not in run.model.asked


async def test_batch_tasks_end_within_their_window_however_full_the_interactive_lane_is(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CLOCK_CHECK_S", 0.01)
    run = await start(concurrency=4, settings=f"{SETTINGS}completion_window_s = 3\nraise_before_s = 1.5\n")
    seen, offset = 0, 0

    def end(task_id: str) -> None:
        if task_id in run.model.held:
            asyncio.get_running_loop().call_later(0.01, end, task_id)
        else:
            run.model.answer(task_id)

    async def ask_and_answer() -> None:
        """Twice as many interactive tasks as there are places, each of which takes 20 ms."""
        nonlocal seen, offset
        while True:
            while offset < run.count("forebay_replies_total", lane="interactive") + 8:
                run.small.deliver(f"i{offset}", offset=offset)
                offset += 1
            for generation_id in run.model.generations[seen:]:
                asyncio.get_running_loop().call_later(0.02, end, generation_id.split("/")[0])
            seen = len(run.model.generations)
            await asyncio.sleep(0.005)

    load = asyncio.create_task(ask_and_answer())
    await run.asked("i0")
    for number in range(12):
        run.batch.deliver(f"b{number}", offset=number)
    await run.until(lambda: run.count("forebay_replies_total", lane="batch") == 12)
    load.cancel()
    assert run.count("forebay_replies_total", lane="batch", outcome="ok") == 12
    assert run.count("forebay_replies_total", lane="interactive", outcome="ok") > 20, "they pressed, and not before"


async def test_a_batch_task_near_the_end_of_its_window_is_urgent_for_the_engine_too(start: Start) -> None:
    run = await start()
    run.batch.deliver("old", offset=0, created_ms=round(time.time() * 1000) - 23 * 3_600_000 - 1_000)
    run.batch.deliver("new", offset=1)
    await run.asked("old")
    assert run.model.asked["old"].lane is Lane.INTERACTIVE
    run.model.answer("old")
    await run.asked("new")
    assert run.model.asked["new"].lane is Lane.BATCH


def test_a_later_stream_has_the_larger_number_and_every_number_fits_its_record() -> None:
    now_s = 1_795_000_000.0
    numbers = [
        stream_number(0, 1, now_s),
        stream_number(0, 1, now_s + 0.2),
        stream_number(0, 2, now_s - 3600),
        stream_number(1, 1, now_s - 3600),
    ]
    assert numbers == sorted(set(numbers))
    assert stream_number(15, 14, now_s) < stream_number(2**31 - 1, 2**31 - 1, now_s) < 2**31
