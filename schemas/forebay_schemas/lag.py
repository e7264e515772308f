"""How many records wait in topics: asked beside the reading, so that neither waits for the other."""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from .sections import KafkaConfig

_TIMEOUT_S = 1.0


class LagProbe:
    """Asks over connections of its own; one is enough for a process.

    The consumer that reads is not to be asked. Its calls wait for one another (confluent-kafka 2.16), and a question
    waits for the fetch before it on the same connection, which lasts for fetch.wait.max.ms, 500, where nothing comes:
    a task that came while four partitions were asked for was read 0.5 to 1.5 s late. This one never reads. (An
    AdminClient would tell of all partitions at once, and ends the process where a broker dies under the question.)
    """

    def __init__(self, config: KafkaConfig) -> None:
        settings = config.client(
            group_id=f"{config.topic_prefix}-lag",  # which has to be named, and is never joined
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        self._consumer = Consumer(settings | {"log_level": 0})  # that brokers are away, the others log

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
