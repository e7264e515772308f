"""Commands are heard while brokers come and go and records are broken, and cancelled tasks are remembered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition
from forebay_schemas.batches import batch_id
from forebay_schemas.config import load_config
from forebay_schemas.records import Control
from forebay_workers import control
from forebay_workers.control import REMEMBER_S, ControlReader
from forebay_workers.lanes import batch_name

from ..builders import NOW_MS
from ..waiting import until
from .doubles import CODEC


class MemoryConsumer:
    """In place of confluent-kafka's consumer of a topic with two partitions that end at 50 and 60."""

    def __init__(self) -> None:
        self.away = 0
        """How many more questions it leaves unanswered."""
        self.asked_since_ms: set[int] = set()
        self.assigned: list[tuple[int, int]] = []
        self.records: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    async def list_topics(self, topic: str, timeout: float) -> Any:
        if self.away:
            self.away -= 1
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=range(2))})

    async def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 50 + 10 * place.partition

    async def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked_since_ms = {place.offset for place in places}
        starts = {0: 40, 1: OFFSET_END}
        return [TopicPartition(place.topic, place.partition, starts[place.partition]) for place in places]

    async def assign(self, places: list[TopicPartition]) -> None:
        self.assigned = [(place.partition, place.offset) for place in places]

    async def poll(self, timeout: float) -> Any:
        return await self.records.get()

    async def close(self) -> None:
        self.closed = True

    def bring(self, value: bytes | None = None, error: KafkaError | None = None) -> None:
        self.records.put_nowait(SimpleNamespace(error=lambda: error, value=lambda: value, offset=lambda: 7))

    def command(self, command: str, issued_ms: int = NOW_MS, **arguments: str) -> None:
        record = Control(key="k", command=command, issued_ms=issued_ms, issued_by="job", arguments=arguments)
        self.bring(CODEC.encode(record))


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> MemoryConsumer:
    memory = MemoryConsumer()
    monkeypatch.setattr(control, "AIOConsumer", lambda settings, max_workers: memory)
    monkeypatch.setattr(control, "_RETRY_S", 0)
    return memory


class Hearing:
    """A reader that runs, what it was told, and its clock."""

    def __init__(self) -> None:
        self.now_ms = float(NOW_MS)
        self.told: list[str] = []
        self.reader = ControlReader(load_config().kafka, CODEC, self.told.append, lambda: self.now_ms)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Hearing"]:
        running = asyncio.create_task(self.reader.run())
        yield self
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_cancelled_task_is_told_and_remembered(consumer: MemoryConsumer) -> None:
    async with Hearing().running() as hearing:
        assert not hearing.reader.is_cancelled("t1")
        consumer.command("cancel_task", task_id="t1")
        await until(lambda: hearing.told == ["t1"])
        assert hearing.reader.is_cancelled("t1")
        assert not hearing.reader.is_cancelled("t2")
    assert consumer.closed


async def test_all_partitions_are_read_and_what_was_cancelled_lately_is_read_back(consumer: MemoryConsumer) -> None:
    async with Hearing().running():
        await until(lambda: consumer.assigned)
    assert consumer.assigned == [(0, 40), (1, 60)]
    assert consumer.asked_since_ms == {NOW_MS - REMEMBER_S * 1000}


async def test_brokers_that_are_away_at_the_start_are_waited_for(consumer: MemoryConsumer) -> None:
    consumer.away = 3
    async with Hearing().running():
        await until(lambda: consumer.assigned)


async def test_errors_and_broken_records_are_passed_over(consumer: MemoryConsumer) -> None:
    async with Hearing().running() as hearing:
        consumer.bring(error=KafkaError(KafkaError._ALL_BROKERS_DOWN))
        consumer.bring(b"garbage")
        consumer.bring(None)
        consumer.command("cancel", tenant="acme", request_id="r1")
        consumer.command("cancel_task")
        consumer.command("cancel_task", task_id="t1")
        await until(lambda: hearing.told)
    assert hearing.told == ["t1"]


async def test_a_cancelled_batch_is_told_and_remembered_and_no_single_request_is(consumer: MemoryConsumer) -> None:
    async with Hearing().running() as hearing:
        consumer.command("cancel", tenant="acme", request_id="row-17")
        consumer.command("cancel", tenant="acme", request_id=batch_id("ab" * 32))
        await until(lambda: hearing.told)
        assert hearing.told == [batch_name("acme", batch_id("ab" * 32))]
        assert hearing.reader.is_cancelled(hearing.told[0])


async def test_the_memory_is_limited_in_time(consumer: MemoryConsumer) -> None:
    async with Hearing().running() as hearing:
        consumer.command("cancel_task", task_id="t1")
        await until(lambda: hearing.told)
        hearing.now_ms += REMEMBER_S * 1000
        assert not hearing.reader.is_cancelled("t1")


async def test_the_memory_is_limited_in_number(consumer: MemoryConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LIMIT", 2)
    async with Hearing().running() as hearing:
        for task_id in ("t1", "t2", "t1", "t3"):
            consumer.command("cancel_task", task_id=task_id)
        await until(lambda: len(hearing.told) == 4)
        assert [task_id for task_id in ("t1", "t2", "t3") if hearing.reader.is_cancelled(task_id)] == ["t1", "t3"]
