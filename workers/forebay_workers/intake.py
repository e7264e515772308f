"""Reading one topic of tasks: membership in its group, and never more tasks than there is room for."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.aio import AIOConsumer
from forebay_schemas.codec import Codec
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Lane, Request, Task
from forebay_schemas.sections import KafkaConfig
from forebay_schemas.topic_probe import TopicProbe
from prometheus_client import Gauge

from .lanes import Delivery, Room
from .offsets import Commit, Partition
from .recent import RecentTasks, read_back

KEEP_ALIVE_S = 0.1
"""While there is no room, the group is served this often, however long a generation takes: a rebalance, and what
waits for it to be committed, are held up no longer than this."""
LOOK_S = 10.0
"""How often the lag is measured: as often as it is scraped. And how soon it is noticed that the topic was made anew."""

_STATE_TIMEOUT_S = 1.0
_POLL_S = 0.1
"""A poll ends with the first record; without one it lasts this long, and so does a shutdown."""
_COMMITTED_TIMEOUT_S = 60.0
_COMMITTED_ANSWER_S = 2.0
"""For one question. One that comes while the group has no coordinator waits for a connection to change, which need not
happen any more once there is one again (librdkafka): it would last its whole time, and the next is answered. Nor may
it last long, because a consumer that is closed waits for it."""
_COMMITTED_RETRY_S = 0.5
_AHEAD_RECORDS = 32
_AHEAD_BYTES = 2**20
"""Of one partition, what waits here for a place before the partition is paused. What comes of it next is a fetch away,
and so many can be refused in the meantime."""
_AHEAD_BYTES_IN_ALL = 2**24
"""Of all together: where there are many partitions, each is paused earlier. What one call returns may be above it."""
_OLDEST_MS = 60_000
"""What was written longer ago is taken to be no older: a clock of a broker that jumps lets one partition go before
another for a minute, and not for an hour."""
_LITTLE = 1 / 4
_PREFETCHED_RECORDS = 64
_PREFETCHED_LARGEST = 4
"""Records of the largest size that are read ahead at most."""
_PREFETCH_PAUSE_MS = 10
_FETCH_WAIT_MS = 100
"""A partition that is read on waits for the answer to what was asked of the others before."""

_log = logging.getLogger(__name__)


class TopicMadeAnew(KafkaException):
    """A topic of tasks was deleted and made anew: only a new consumer reads it (``TopicState.id``)."""


class Owner(Protocol):
    """Who is told what happens to the partitions of an intake. On return a rebalance goes on."""

    def assigned(self, commits: Mapping[Partition, Commit | None]) -> RecentTasks:
        """These partitions are ours, from what their group stored. Returns where to note their newest tasks."""
        ...

    def full(self, partition: Partition) -> bool:
        """Whether nothing further of a partition may be read for now."""
        ...

    def taken(self, delivery: Delivery) -> None:
        """A task was read; it holds a place until it is committed, given up or set aside."""
        ...

    async def revoked(self, partitions: Collection[Partition]) -> None:
        """These partitions go to another process after the return; until then this one may still commit."""
        ...

    async def lost(self, partitions: Collection[Partition]) -> None:
        """These partitions have gone to another process already."""
        ...


class Intake:
    """The consumer of one tier's lane.

    Each topic has a group of its own, so that workers may serve different tiers: a rebalance of one tier leaves
    the others alone, and the lag of each is read off its group. A consumer for each lane means that interactive
    tasks are never stuck behind batch ones that were fetched first.
    """

    def __init__(
        self, config: KafkaConfig, codec: Codec, tier: str, lane: Lane, room: Room, lag: Gauge, probe: TopicProbe
    ) -> None:
        self.tier = tier
        self.lane = lane
        self.topic = config.topics.tier(tier, lane)
        self.group: Any = None
        """The group's metadata for a transaction; None before the first rebalance."""
        self._config = config
        self._codec = codec
        self._room = room
        self._lag = lag
        self._probe = probe
        self._topic_id: str | None = None
        self._partitions: dict[Partition, int] = {}
        """Those that are ours, with the offset that each is taken from next."""
        self._ahead: dict[Partition, deque[tuple[float, Message]]] = {}
        """What was read of them and not taken yet, each with when it was written as far as that is believed."""
        self._clock_ms = time.time() * 1000 - time.monotonic() * 1000
        """The time of day when monotonic time began, by which what is read is compared whatever becomes of clocks."""
        self._paused: set[Partition] = set()
        """Also those that went to others: librdkafka remembers, and goes on pausing them should they come back."""
        self._stale = False
        self._leaving = False

    async def open(self, owner: Owner) -> None:
        """Join the group."""
        self._owner = owner
        self._consumer = AIOConsumer(
            self._config.client(
                group_id=self._config.topics.workers_group(self.tier, self.lane),
                partition_assignment_strategy="cooperative-sticky",
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                # A killed worker's tasks go to others after the first; moving a partition takes one of the second.
                session_timeout_ms=10_000,
                heartbeat_interval_ms=1_000,
                fetch_message_max_bytes=self._config.max_wire_bytes,
                # librdkafka reads ahead 100,000 records or 64 MB by default, asks for 50 MB at a time, and looks again
                # a second after it has enough.
                queued_min_messages=_PREFETCHED_RECORDS,
                queued_max_messages_kbytes=_PREFETCHED_LARGEST * self._config.max_wire_bytes // 1024,
                fetch_max_bytes=_PREFETCHED_LARGEST * self._config.max_wire_bytes,
                fetch_queue_backoff_ms=_PREFETCH_PAUSE_MS,
                fetch_wait_max_ms=_FETCH_WAIT_MS,
                logger=logging.getLogger("kafka.consumer"),
            ),
            max_workers=3,  # a poll, a call from inside one of its callbacks, and the close that waits for both
        )
        await self._consumer.subscribe(
            [self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            KafkaException: the consumer is of no use any more.
            TopicMadeAnew: what it reads is gone.
        """
        looks = asyncio.create_task(self._look_at_the_topic())
        try:
            while not looks.done():
                await self._room.wait(KEEP_ALIVE_S)
                self._take_oldest()
                await self._pause({one for one in self._partitions if self._far_ahead(one) or self._owner.full(one)})
                message = await self._consumer.poll(_POLL_S if self._room.free else 0)
                if message is not None:
                    self._keep(message)
                    # What has come meanwhile, in one call: each is a way to another thread and back, and where the
                    # processor is short that takes many times as long as the call.
                    for further in await self._consumer.consume(_AHEAD_RECORDS, 0):
                        self._keep(further)
                    self._take_oldest()
                if self._stale:
                    self.group = await self._consumer.consumer_group_metadata()
                    self._stale = False
            await looks
        finally:
            looks.cancel()

    def refresh(self) -> None:
        """The group's metadata was refused: the group may be further in a rebalance than its callbacks have told."""
        self._stale = True

    async def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._leaving = True
        await self._consumer.close()

    def _keep(self, message: Message) -> None:
        if error := message.error():
            if error.fatal():
                raise KafkaException(error)
            _log.warning("reading %s: %s", self.topic, error)
            return
        if (partition := _place(message)[0]) in self._partitions:  # else it went to others while a call returned
            read_ms = self._clock_ms + time.monotonic() * 1000
            written_ms = min(max(message.timestamp()[1], read_ms - _OLDEST_MS), read_ms)
            self._ahead.setdefault(partition, deque()).append((written_ms, message))

    def _far_ahead(self, partition: Partition) -> bool:
        """Whether enough of a partition waits here. One that is paused is read on when little is left: what else was
        fetched of it is fetched again."""
        ahead, share = self._ahead.get(partition, ()), _LITTLE if partition in self._paused else 1
        waiting = sum(len(one.value() or b"") for _, one in ahead)
        room = min(_AHEAD_BYTES, _AHEAD_BYTES_IN_ALL // max(1, len(self._partitions)))
        return len(ahead) >= share * _AHEAD_RECORDS or waiting >= share * room

    def _take_oldest(self) -> None:
        """Take what was written first, as long as there is room."""
        while self._room.free:
            readable = [ahead for one, ahead in self._ahead.items() if ahead and not self._owner.full(one)]
            if not readable:
                return
            self._take(min(readable, key=lambda ahead: ahead[0][0]).popleft()[1])

    def _take(self, message: Message) -> None:
        partition, offset = _place(message)
        self._room.take()
        self._partitions[partition] = offset + 1
        value = message.value() or b""
        task, request = self._contents(value)
        self._owner.taken(
            Delivery(
                tier=self.tier,
                lane=self.lane,
                partition=partition,
                offset=offset,
                value=value,
                key=message.key(),  # pyright: ignore[reportArgumentType]: as read, bytes
                headers=message.headers() or [],  # pyright: ignore[reportArgumentType]: as read, a list with bytes
                task=task,
                request=request,
                written_ms=message.timestamp()[1],
            )
        )

    async def _look_at_the_topic(self) -> None:
        """Ask where the partitions end. What was fetched does not tell: nothing is while there is no room."""
        while True:
            await self._check_topic_id()
            unread = await asyncio.to_thread(self._probe.unread, dict(self._partitions))  # reading goes on
            if unread is not None:  # else the last figure stays
                self._lag.set(unread)
                self._room.unread[self.topic] = unread
            await asyncio.sleep(LOOK_S)

    async def _check_topic_id(self) -> None:
        try:
            found = (await asyncio.to_thread(self._probe.state, self.topic, _STATE_TIMEOUT_S)).id
        except KafkaException:  # whoever reads is told
            return
        if self._topic_id not in (None, found):
            await self._owner.lost(set(self._partitions))  # or their progress would be stored for the new ones
            self._forget(set(self._partitions))
            raise TopicMadeAnew(KafkaError(KafkaError.UNKNOWN_TOPIC_ID, f"{self.topic} was deleted and made anew"))
        self._topic_id = found

    def _contents(self, value: bytes) -> tuple[Task | None, Request | None]:
        """What a record holds; what cannot be read is told to an operator when its turn comes."""
        try:
            task = self._codec.decode(value, Task)
        except ForebayError:
            return None, None
        try:
            return task, self._codec.decode(task.request, Request)
        except ForebayError:
            return task, None

    async def _pause(self, full: set[Partition]) -> None:
        """Keep polls from returning records of these partitions, and of no others."""
        to_pause, to_resume = full - self._paused, (self._paused - full).intersection(self._partitions)
        for change, partitions in ((self._consumer.pause, to_pause), (self._consumer.resume, to_resume)):
            if partitions:
                await change([TopicPartition(*partition) for partition in partitions])
        self._paused = (self._paused | full) - to_resume

    # librdkafka calls back within a poll. Each rebalance brings at least one of these, even when nothing changes
    # here, and with it a new generation of the group: transactions with an older one are refused.

    async def _on_assign(self, consumer: AIOConsumer, partitions: list[Any]) -> None:
        self.group = await consumer.consumer_group_metadata()
        if partitions:
            stored = await self._stored(consumer, partitions)
            commits = {
                (at.topic, at.partition): Commit(at.offset, at.metadata or "") if at.offset >= 0 else None
                for at in stored
            }
            recent = self._owner.assigned(commits)
            ends = {partition: commit.offset for partition, commit in commits.items() if commit}
            await asyncio.to_thread(read_back, self._config, ends, recent)
            self._partitions |= {partition: commit.offset if commit else 0 for partition, commit in commits.items()}
            _log.info("%s: took over partitions %s", self.topic, _numbers(partitions))

    async def _stored(self, consumer: AIOConsumer, partitions: list[Any]) -> list[Any]:
        """What the group stored, once nobody's transaction has it open any more: that of a killed worker lasts until
        the brokers abort it."""
        until_s = time.monotonic() + _COMMITTED_TIMEOUT_S
        while True:
            try:
                stored = await consumer.committed(partitions, timeout=_COMMITTED_ANSWER_S)
                problem = next((at.error for at in stored if at.error), None)
                if problem is None:
                    return stored
            except KafkaException as error:
                problem = error.args[0]
            if self._leaving or time.monotonic() > until_s:
                raise KafkaException(problem)
            _log.warning("%s: what is stored of its partitions is not known yet: %s", self.topic, problem)
            await asyncio.sleep(_COMMITTED_RETRY_S)

    async def _on_revoke(self, consumer: AIOConsumer, partitions: list[Any]) -> None:
        self.group = await consumer.consumer_group_metadata()
        _log.info("%s: gives up partitions %s", self.topic, _numbers(partitions))
        gone = {(partition.topic, partition.partition) for partition in partitions}
        await self._owner.revoked(gone)
        self._forget(gone)

    async def _on_lost(self, consumer: AIOConsumer, partitions: list[Any]) -> None:
        _log.warning("%s: lost partitions %s to another worker", self.topic, _numbers(partitions))
        gone = {(partition.topic, partition.partition) for partition in partitions}
        await self._owner.lost(gone)
        self._forget(gone)

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._partitions.pop(partition, None)
            self._ahead.pop(partition, None)


def _place(message: Message) -> tuple[Partition, int]:
    return (message.topic() or "", message.partition() or 0), message.offset() or 0


def _numbers(partitions: list[Any]) -> list[int]:
    return sorted(partition.partition for partition in partitions)
