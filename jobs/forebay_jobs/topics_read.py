"""The topics that the job reads, and which of them were deleted and made anew while it ran.

What a source remembers of a topic, its offsets, means nothing in one of the same name that was made anew: Flink would
go on from them, and skip what lies below.
"""

from collections.abc import Collection
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]
from forebay_schemas.config import Config
from forebay_schemas.topic_probe import TopicProbe

from .topics_used import topics_to_read

_TIMEOUT_S = 2.0


class TopicsRead:
    """Looks at them now and then; a topic counts as made anew when two looks in a row tell the same id that none told
    before: a broker that lags behind may still tell of the old one."""

    def __init__(self, config: Config) -> None:
        self._names = topics_to_read(config)
        self._kafka = config.kafka
        self._probe = TopicProbe(config.kafka)
        self._known: dict[str, set[str]] = {}
        self._suspected: dict[str, str] = {}
        self._unread: set[str] = set()
        self.anew: dict[str, str] = {}
        """The ids of those that were made anew since the first look that told of them."""

    def look(self) -> None:
        """See which are others than before. Takes two seconds where brokers do not answer.

        Raises:
            KafkaException: a setting is none that librdkafka takes.
        """
        told = self._probe.ids(self._names, _TIMEOUT_S)
        if not told:
            self._probe = TopicProbe(self._kafka)  # a client may forget the only broker (librdkafka 2.16)
        other = {topic: one for topic, one in told.items() if one not in self._known.setdefault(topic, {one})}
        changed = {topic: one for topic, one in other.items() if self._suspected.get(topic) == one}
        self._suspected = other
        for topic, one in changed.items():
            self._known[topic].add(one)
        self.anew |= changed
        self._unread |= changed.keys()

    def rewind(self) -> None:
        """Have sources that remember nothing of those made anew read them from the beginning, whatever was committed
        meanwhile: until ``remembered``. The job may not run now.

        Raises:
            KafkaException: the brokers do not take it.
        """
        if not self._unread:
            return
        try:
            counts = {topic: self._probe.state(topic, _TIMEOUT_S).partitions for topic in self._unread}
            places = [(topic, partition) for topic, count in counts.items() for partition in range(count)]
            _rewind(self._kafka.client(), self._kafka.topics.job_group, places)
        except KafkaException:
            self._probe = TopicProbe(self._kafka)
            raise

    def remembered(self) -> None:
        """The job has a checkpoint that knows how far it has read them."""
        self._unread.clear()


def _rewind(settings: dict[str, Any], group: str, partitions: Collection[tuple[str, int]]) -> None:
    admin = AdminClient(settings)  # held until it has told: without it nobody would
    places = [TopicPartition(topic, partition, 0) for topic, partition in partitions]
    told = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, places)], request_timeout=_TIMEOUT_S
    )[group]
    for place in told.result().topic_partitions:
        if place.error is not None:
            raise KafkaException(place.error)
