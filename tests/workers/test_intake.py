"""Taking partitions over from a consumer that leaves questions unanswered."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
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

from .doubles import CODEC

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

    async def poll(self, timeout: float) -> None:
        await asyncio.sleep(0)

    async def pause(self, partitions: list[TopicPartition]) -> None: ...

    async def resume(self, partitions: list[TopicPartition]) -> None: ...


class Owner:
    def __init__(self) -> None:
        self.lost_partitions: set[Partition] = set()
        self.commits: dict[Partition, Commit | None] = {}

    def assigned(self, commits: Mapping[Partition, Commit | None]) -> RecentTasks:
        self.commits.update(commits)
        return RecentTasks()

    def full(self, partition: Partition) -> bool:
        return False

    def taken(self, delivery: Delivery) -> None: ...

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
