"""What topics are like now: asked beside the reading, so that neither waits for the other."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]

from .sections import KafkaConfig

_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic that exists.

    Attributes:
        id: which one that is deleted and made anew does not keep. A consumer does not see that (librdkafka 2.16): it
            holds on to the offsets and the leaders' epochs of the topic that is gone, and where those of the new one
            are lower, it never reads again. Only a new consumer does.
    """

    id: str
    partitions: int


class TopicProbe:
    """Asks over connections of its own; one is enough for a process.

    The consumer that reads is not to be asked. Its calls wait for one another (confluent-kafka 2.16), and a question
    waits for the fetch before it on the same connection, which lasts for fetch.wait.max.ms, 500, where nothing comes:
    a task that came while four partitions were asked for was read 0.5 to 1.5 s late. These never read.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    def state(self, topic: str, timeout_s: float) -> TopicState:
        """What a topic is. Blocks meanwhile.

        Raises:
            KafkaException: there is none of this name, or the brokers do not answer in time.
        """
        found = self._described([topic], timeout_s)[topic].result()
        return TopicState(str(found.topic_id), len(found.partitions))

    def ids(self, topics: Collection[str], timeout_s: float) -> dict[str, str]:
        """The ids of those topics that are there and can be asked for in time. Blocks meanwhile."""
        found: dict[str, str] = {}
        for topic, told in self._described(topics, timeout_s).items():
            with suppress(KafkaException):
                found[topic] = str(told.result().topic_id)
        return found

    def cluster(self, timeout_s: float) -> str | None:
        """The id of the brokers' cluster; None where they do not tell it in time. Blocks meanwhile."""
        with suppress(KafkaException):
            return self._admin.describe_cluster(request_timeout=timeout_s).result().cluster_id
        return None

    def unread(self, next_offsets: Mapping[tuple[str, int], int]) -> int | None:
        """Count what was not read yet; None while a broker is away, or takes a second to answer. Blocks meanwhile.

        Args:
            next_offsets: where reading goes on, by topic and partition.
        """
        unread = 0
        for partition, offset in next_offsets.items():
            try:
                ends = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_TIMEOUT_S)
            except KafkaException:
                return None
            if ends is None:
                return None
            low, high = ends
            unread += max(0, high - max(low, offset))  # what lies before low is deleted
        return unread

    def _described(self, topics: Collection[str], timeout_s: float) -> dict[str, Any]:
        return self._admin.describe_topics(TopicCollection([*topics]), request_timeout=timeout_s)

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._quiet())

    @cached_property
    def _consumer(self) -> Consumer:
        """For ends. An AdminClient would tell all at once, and ends the process where a broker dies while offsets are
        asked for; where topics are, it was seen to bear that."""
        settings = {"group_id": f"{self._config.topic_prefix}-lag", "enable_auto_commit": False}  # never joined
        return Consumer(self._quiet(**settings, isolation_level="read_committed"))

    def _quiet(self, **settings: Any) -> dict[str, Any]:
        return self._config.client(**settings) | {"log_level": 0}  # that brokers are away, the others log
