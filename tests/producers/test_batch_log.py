"""What is read of batches in Kafka, while others write to the same topics."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition
from forebay_client.batch import log as log_module
from forebay_client.batch.log import ReplyReader
from forebay_schemas.batches import Stage, batch_id
from forebay_schemas.config import Config
from forebay_schemas.records import BatchState

BATCH = BatchState(
    batch_id=batch_id("ab" * 32), tenant="acme", stage=Stage.SENT, created_ms=0, updated_ms=0, deadline_ms=0,
    source="rows.jsonl", source_digest="", options="{}", rows=1, reply_topic="llm.replies", replies_from=[0],
)  # fmt: skip


class Topic:
    """A topic of one partition, as its consumers see it.

    Attributes:
        values: its records.
        busy: whether somebody writes another record whenever one is read.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, values: list[bytes]) -> None:
        self.values = values
        self.busy = False
        monkeypatch.setattr(log_module, "Consumer", lambda settings, **_: _Consumer(self))


class _Consumer:
    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._at = 0
        self._told_at = -1

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=[0])})

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self._topic.values)

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._at = places[0].offset

    def poll(self, timeout_s: float) -> Any:
        if self._at < len(self._topic.values):
            self._at += 1
            if self._topic.busy:
                self._topic.values.append(b"")
            return _message(self._at - 1, self._topic.values[self._at - 1])
        if self._told_at < self._at:
            self._told_at = self._at
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
