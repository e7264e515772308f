"""What is read of batches in Kafka, while others write to the same topics."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from forebay_client import BrokerUnavailable, reading
from forebay_client.batch import log as log_module
from forebay_client.batch.log import ReplyReader, StateLog
from forebay_schemas.batches import Stage, batch_id
from forebay_schemas.config import Config
from forebay_schemas.records import BatchState

from .batch_doubles import CODEC

BATCH = BatchState(
    batch_id=batch_id("ab" * 32), tenant="acme", stage=Stage.SENT, created_ms=0, updated_ms=0, deadline_ms=0,
    source="rows.jsonl", source_digest="", options="{}", rows=1, reply_topic="llm.replies", replies_from=[0],
)  # fmt: skip


class Topic:
    """A topic of one partition, as its consumers see it.

    Attributes:
        values: its records.
        busy: whether somebody writes another record whenever one is read.
        open_at: where a transaction begins that is still open; who reads committed records gets none from there on.
        at_end: called when a reader is told that there is no more.
        unanswered: how many of the next questions time out.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, values: list[bytes]) -> None:
        self.values = values
        self.busy = False
        self.open_at: int | None = None
        self.at_end: Callable[[], object] = lambda: None
        self.unanswered = 0
        monkeypatch.setattr(reading, "Consumer", lambda settings, **_: _Consumer(self, settings["isolation.level"]))


class _Consumer:
    def __init__(self, topic: Topic, isolation_level: str) -> None:
        self._topic = topic
        self._committed = isolation_level == "read_committed"
        self._at = 0
        self._told_at = -1

    def _ask(self) -> None:
        if self._topic.unanswered > 0:
            self._topic.unanswered -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def list_topics(self, topic: str, timeout: float) -> Any:
        self._ask()
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=[0])})

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        self._ask()
        return 0, self._end

    @property
    def _end(self) -> int:
        return len(self._topic.values[: self._topic.open_at if self._committed else None])

    def assign(self, places: list[TopicPartition]) -> None:
        self._at = max(0, places[0].offset)

    incremental_assign = assign

    def poll(self, timeout_s: float) -> Any:
        if self._at < self._end:
            self._at += 1
            if self._topic.busy:
                self._topic.values.append(b"")
            return _message(self._at - 1, self._topic.values[self._at - 1])
        if self._told_at < self._at:
            self._told_at = self._at
            self._topic.at_end()
            return _message(self._at, error=SimpleNamespace(code=lambda: KafkaError._PARTITION_EOF))
        return time.sleep(min(timeout_s, 0.01))

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        message = self.poll(timeout_s)
        return [] if message is None else [message]

    def close(self) -> None: ...


def _message(offset: int, value: bytes = b"", error: Any = None) -> Any:
    values = {"partition": 0, "offset": offset, "value": value, "headers": (), "error": error}
    return SimpleNamespace(**{name: lambda value=value: value for name, value in values.items()})


@pytest.mark.parametrize("there", [0, 20])
def test_a_reader_is_at_the_end_though_others_never_stop_writing(
    monkeypatch: pytest.MonkeyPatch, config: Config, there: int
) -> None:
    topic = Topic(monkeypatch, [b""] * there)
    reader = ReplyReader(config, BATCH, {0: 0})
    topic.busy = True
    for _ in range(there + 1):
        reader.poll(0)
    assert reader.at_end
    topic.values.append(b"")
    reader.poll(0)
    assert reader.at_end, "for good"
    reader.close()


def test_states_are_read_once_and_then_what_is_new(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    topic = Topic(monkeypatch, [CODEC.encode(BATCH)])
    states = StateLog(config, CODEC)
    assert states.read() == {BATCH.batch_id: BATCH}
    newer = msgspec.structs.replace(BATCH, updated_ms=1)
    topic.values = [b"was read before", CODEC.encode(newer)]
    assert states.read() == {BATCH.batch_id: newer}
    states.close()


def test_states_behind_an_open_transaction_of_another_batch_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    other = msgspec.structs.replace(BATCH, batch_id=batch_id("cd" * 32))
    newer = msgspec.structs.replace(BATCH, updated_ms=1)
    topic = Topic(monkeypatch, [CODEC.encode(state) for state in (BATCH, other, newer)])
    topic.open_at = 1
    topic.at_end = lambda: setattr(topic, "open_at", None)  # the transaction ends
    assert StateLog(config, CODEC).read()[BATCH.batch_id] == newer

    topic.open_at, topic.at_end = 1, lambda: None
    monkeypatch.setattr(log_module, "_PATIENCE_S", 0.05)
    with pytest.raises(BrokerUnavailable, match="could not be read to its end"):
        StateLog(config, CODEC).read()


def test_one_that_stood_still_while_it_waited_for_the_brokers_asks_them_again(
    monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    topic = Topic(monkeypatch, [])
    topic.unanswered = 1
    ReplyReader(config, BATCH, {}).close()
    topic.unanswered = 2
    with pytest.raises(BrokerUnavailable, match="do not answer"):
        ReplyReader(config, BATCH, {})
