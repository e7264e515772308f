"""Topics in memory, each of one partition, behind those calls of confluent-kafka by which rollouts are kept."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition
from forebay_jobs import rollout_log
from forebay_ops.rollouts import moving, observing

_POLL_S = 0.01


class Kafka:
    """What is in the topics.

    Attributes:
        at_once: records that a reader gets at a time.
        held_back: of a topic, the records from this one on, which no reader gets yet though they are there.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics: dict[str, list[bytes]] = {}
        self.at_once = 1_000
        self.held_back: dict[str, int] = {}
        for module in (rollout_log, observing):
            monkeypatch.setattr(module, "Consumer", lambda *_, **__: _Consumer(self))
        monkeypatch.setattr(moving, "Producer", lambda *_, **__: _Producer(self))

    def write(self, topic: str, *values: bytes) -> None:
        self.topics.setdefault(topic, []).extend(values)


class _Producer:
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    def produce(self, topic: str, value: bytes, key: str, on_delivery: Any) -> None:
        self._kafka.write(topic, value)

    def flush(self, timeout_s: float) -> int:
        return 0


class _Consumer:
    """Its times are offsets: nothing in these topics is older than a stage."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._places: dict[str, int] = {}

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=[0])})

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self._kafka.topics.get(place.topic, []))

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(place.topic, place.partition, 0 if self._kafka.topics.get(place.topic) else OFFSET_END)
            for place in places
        ]

    def assign(self, places: list[TopicPartition]) -> None:
        self._places = {place.topic: 0 if place.offset == OFFSET_BEGINNING else place.offset for place in places}

    def unassign(self) -> None:
        self._places = {}

    def poll(self, timeout_s: float) -> Any:
        return next(iter(self.consume(1, timeout_s)), None)

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        read: list[Any] = []
        for topic, offset in self._places.items():
            there = self._kafka.topics.get(topic, [])[: self._kafka.held_back.get(topic)]
            values = there[offset:][: min(count, self._kafka.at_once) - len(read)]
            read += [_message(topic, offset + number, value) for number, value in enumerate(values)]
            self._places[topic] += len(values)
        if not read:
            time.sleep(min(timeout_s, _POLL_S))
        return read

    def close(self) -> None:
        pass


def _message(topic: str, offset: int, value: bytes) -> Any:
    values = {"topic": topic, "partition": 0, "offset": offset, "value": value, "error": None}
    return SimpleNamespace(**{name: lambda value=value: value for name, value in values.items()})
