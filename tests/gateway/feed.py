"""The whole reply topic of a broker in memory, as somebody reads it who looks on."""

from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.records import Reply

from tests.producers.doubles import CODEC, MemoryKafka


class MemoryFeed:
    """In place of ``feed.ReplyFeed``."""

    def __init__(self, kafka: MemoryKafka, config: Config, topic: str) -> None:
        self._inbox = kafka.inbox(config, topic, "whoever looks on", 1.0)

    def poll(self, timeout_s: float) -> Reply | None:
        record = self._inbox.poll(timeout_s)
        return CODEC.decode(record.value, Reply) if record else None

    def close(self) -> None:
        self._inbox.close()


def feeds_of(kafka: MemoryKafka) -> Any:
    """What makes them, as ``Core`` does."""
    return lambda config, codec, topic, group, from_beginning: MemoryFeed(kafka, config, topic)
