"""Reading tasks as far as there is room, and taking partitions over from a consumer that leaves questions open."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from forebay_schemas.records import Lane
from forebay_schemas.sections import KafkaConfig
from forebay_schemas.topic_probe import TopicProbe, TopicState
from forebay_workers import intake
from forebay_workers.lanes import Delivery, Room
from forebay_workers.offsets import Commit, Partition
from forebay_workers.recent import RecentTasks
from prometheus_client import Gauge

from .doubles import CODEC, delivery

LEAVES_S = 30.0


class Consumer:
    """A member of a group whose coordinator came back unseen: it would wait for it as long as it may, once."""

    def __init__(self, settings: Mapping[str, Any], max_workers: int) -> None:
        self.waited_s: list[float] = []
        """How long each question about what is stored was left without an answer."""

    async def subscribe(self, topics: list[str], on_assign: Callable[..., Any], **others: Any) -> None:
        self.assign = on_assign

    async def consumer_group_metadata(self) -> object:
        return object()

    async def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if not self.waited_s:
            self.waited_s.append(timeout)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition(at.topic, at.partition, OFFSET_INVALID) for at in partitions]


class Silent:
    """A consumer to which nothing comes."""

    async def subscribe(self, topics: list[str], **others: Any) -> None: ...

    async def poll(self, timeout: float) -> Any:
        await asyncio.sleep(0)

    async def pause(self, partitions: list[TopicPartition]) -> None: ...

    async def resume(self, partitions: list[TopicPartition]) -> None: ...


class Record:
    """Of a topic of tasks; what it holds is no task."""

    def __init__(self, partition: int, offset: int, written_ms: float) -> None:
        self._at, self._written_ms = (partition, offset), round(written_ms)

    def error(self) -> None: ...

    def topic(self) -> str:
        return "llm.tier.small"

    def partition(self) -> int:
        return self._at[0]

    def offset(self) -> int:
        return self._at[1]

    def value(self) -> bytes:
        return b""

    key = value

    def headers(self) -> None: ...

    def timestamp(self) -> tuple[int, int]:
        return (1, self._written_ms)


class Fetching(Silent):
    """A consumer of some partitions that is as librdkafka's: it hands out what it has fetched of one before the other,
    and forgets what it has fetched of one that is paused."""

    def __init__(self, records: int, fetched: int = 64, ahead_ms: Sequence[int] = (0, 0)) -> None:
        """
        Args:
            ahead_ms: by how much the clock of whoever wrote it was ahead, for each partition.
        """
        now_ms = time.time() * 1000
        self.partitions = range(len(ahead_ms))
        self._log = {
            part: [Record(part, offset, now_ms + ahead - 100 * (records - offset)) for offset in range(records)]
            for part, ahead in enumerate(ahead_ms)
        }
        self._most = fetched
        self._fetched: list[Record] = []
        self.paused: set[int] = set()
        self.calls = self.read = 0

    async def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {one.partition for one in partitions}
        for one in reversed(self._fetched):
            if one.partition() in self.paused:
                self._log[one.partition()].insert(0, one)
        self._fetched = [one for one in self._fetched if one.partition() not in self.paused]

    async def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {one.partition for one in partitions}

    async def poll(self, timeout: float) -> Any:
        return next(iter(await self.consume(1, timeout)), None)

    async def consume(self, most: int, timeout: float) -> list[Record]:
        self.calls += 1
        await asyncio.sleep(0)
        if not self._fetched:
            for part in set(self.partitions) - self.paused:
                self._fetched += self._log[part][: self._most]
                self._log[part] = self._log[part][self._most :]
        self._fetched, read = self._fetched[most:], self._fetched[:most]
        self.read += len(read)
        return read


class Owner:
    def __init__(self) -> None:
        self.lost_partitions: set[Partition] = set()
        self.read: list[tuple[int, int]] = []
        """Partitions and offsets."""
        self.full_partitions: set[Partition] = set()
        self.commits: dict[Partition, Commit | None] = {}

    def assigned(self, commits: Mapping[Partition, Commit | None]) -> RecentTasks:
        self.commits.update(commits)
        return RecentTasks()

    def full(self, partition: Partition) -> bool:
        return partition in self.full_partitions

    def taken(self, delivery: Delivery) -> None:
        self.read.append((delivery.partition[1], delivery.offset))

    async def revoked(self, partitions: Collection[Partition]) -> None: ...

    async def lost(self, partitions: Collection[Partition]) -> None:
        self.lost_partitions.update(partitions)


class Probe(TopicProbe):
    """Of a topic that is made anew."""

    def __init__(self, *ids: str) -> None:
        self._ids = iter(ids)

    def state(self, topic: str, timeout_s: float) -> TopicState:
        return TopicState(next(self._ids), 4)

    def unread(self, next_offsets: Mapping[Partition, int]) -> int | None:
        return 0

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, tuple[int, int]] | None:
        return dict.fromkeys(partitions, (0, 4))


async def test_a_topic_that_was_made_anew_ends_it_and_nothing_is_stored_of_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "LOOK_S", 0.0)
    monkeypatch.setattr(intake, "AIOConsumer", lambda settings, max_workers: Silent())
    owner = Owner()
    source = intake.Intake(
        KafkaConfig(), CODEC, "small", Lane.INTERACTIVE, Room(1), Gauge("lag", "Tasks.", registry=None),
        Probe("first", "first", "second"),
    )  # fmt: skip
    await source.open(owner)
    source._partitions = {(source.topic, 3): 17}
    with pytest.raises(intake.TopicMadeAnew, match="was deleted and made anew"):
        await source.run()
    assert owner.lost_partitions == {(source.topic, 3)}


@asynccontextmanager
async def reading(consumer: Fetching, owner: Owner, room: Room, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """An intake that reads all partitions."""
    monkeypatch.setattr(intake, "AIOConsumer", lambda settings, max_workers: consumer)
    monkeypatch.setattr(intake, "KEEP_ALIVE_S", 0.001)
    lag = Gauge("lag", "Tasks.", registry=None)
    source = intake.Intake(KafkaConfig(), CODEC, "small", Lane.INTERACTIVE, room, lag, Probe(*["same"] * 9))
    await source.open(owner)
    source._partitions = {(source.topic, part): 0 for part in consumer.partitions}
    task = asyncio.create_task(source.run())
    try:
        async with asyncio.timeout(10):
            yield
    finally:
        task.cancel()


async def test_what_was_written_first_is_read_first_however_little_room_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, room = Owner(), Room(1)
    async with reading(Fetching(200), owner, room, monkeypatch):
        for number in range(1, 201):
            while len(owner.read) < number:
                await asyncio.sleep(0)
            if not number % 20:  # as long as generations take; the group is served meanwhile
                await asyncio.sleep(0.01)
            room.give_back(delivery())
    offsets = [offset for _, offset in owner.read[:200]]
    assert all(abs(offset - place / 2) < 9 for place, offset in enumerate(offsets))
    assert {part for part, _ in owner.read} == {0, 1}


@pytest.mark.parametrize("ahead_ms", [3_600_000, -3_600_000])
async def test_a_clock_that_was_wrong_counts_no_longer_than_it_may(
    ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here not at all."""
    monkeypatch.setattr(intake, "_OLDEST_MS", 0)
    owner, room = Owner(), Room(1)
    async with reading(Fetching(200, ahead_ms=(0, ahead_ms)), owner, room, monkeypatch):
        while len(owner.read) < 200:
            await asyncio.sleep(0)
            if not room.free:
                room.give_back(delivery())
    assert {part for part, _ in owner.read[:100]} == {part for part, _ in owner.read[100:200]} == {0, 1}


async def test_of_many_partitions_no_more_is_read_ahead_than_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of records of 200 kB in all of them together as many as of two partitions, and the last one of each."""
    monkeypatch.setattr(intake, "_AHEAD_BYTES_IN_ALL", 2**21)
    monkeypatch.setattr(Record, "value", lambda record: bytes(200_000))

    async def most_ahead(partitions: int) -> int:
        fetching = Fetching(100, fetched=1, ahead_ms=[0] * partitions)
        async with reading(fetching, Owner(), Room(1), monkeypatch):
            while len(fetching.paused) < partitions:
                await asyncio.sleep(0)
        return fetching.read

    assert await most_ahead(2) >= 2**21 // 200_000
    assert await most_ahead(16) <= 2**21 // 200_000 + 2 * 16


async def test_what_has_come_is_read_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, fetching = Owner(), Fetching(32)
    async with reading(fetching, owner, Room(64), monkeypatch):
        while len(owner.read) < 64:
            await asyncio.sleep(0)
        assert fetching.calls < 32


async def test_no_more_is_taken_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, room = Owner(), Room(4)
    async with reading(Fetching(200), owner, room, monkeypatch):
        while room.free:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert len(owner.read) == 4


async def test_nothing_is_taken_of_a_partition_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, room = Owner(), Room(64)
    owner.full_partitions = {("llm.tier.small", 0)}
    async with reading(Fetching(20), owner, room, monkeypatch):
        while len(owner.read) < 20:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert {part for part, _ in owner.read} == {1}
        owner.full_partitions = set()
        while len(owner.read) < 40:
            await asyncio.sleep(0)


async def test_a_question_that_is_never_answered_holds_a_take_over_up_for_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer, owner, kafka = Consumer({}, 1), Owner(), KafkaConfig()
    monkeypatch.setattr(intake, "AIOConsumer", lambda settings, max_workers: consumer)
    lag = Gauge("lag", "Tasks.", registry=None)
    source = intake.Intake(kafka, CODEC, "small", Lane.INTERACTIVE, Room(1), lag, TopicProbe(kafka))
    await source.open(owner)
    await consumer.assign(consumer, [TopicPartition(source.topic, 3)])
    assert owner.commits == {(source.topic, 3): None}
    assert sum(consumer.waited_s) < 5


class Forgotten:
    """Assigns a partition with the first poll, and never says what is stored of it; as librdkafka's does, ``close``
    waits for the callback that is under way."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.asked = asyncio.Event()
        self._rebalance: asyncio.Task[None] | None = None

    async def subscribe(
        self, topics: list[str], *, on_assign: Callable[[Any, list[TopicPartition]], Awaitable[None]], **_: Any
    ) -> None:
        async def assign() -> None:
            await on_assign(self, [TopicPartition(topics[0], 0)])

        self._rebalance = asyncio.create_task(assign())

    async def consumer_group_metadata(self) -> object:
        return object()

    async def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked.set()
        await asyncio.sleep(timeout)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    async def close(self) -> None:
        assert self._rebalance is not None
        await self._rebalance


async def test_leaving_does_not_wait_for_an_answer_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = Forgotten()
    monkeypatch.setattr(intake, "AIOConsumer", lambda *_, **__: forgotten)
    kafka, lag = KafkaConfig(), Gauge("lag", "Tasks.", registry=None)
    source = intake.Intake(kafka, CODEC, "small", Lane.INTERACTIVE, Room(1), lag, TopicProbe(kafka))
    await source.open(Owner())
    await forgotten.asked.wait()
    with pytest.raises(KafkaException):  # which the worker notes, and leaves the next group
        await asyncio.wait_for(source.close(), LEAVES_S)
