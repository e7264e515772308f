"""How many records of each topic wait for their reader, as Kafka knows it: also while the reader is away."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # pyright: ignore[reportPrivateImportUsage]
from forebay_schemas.config import Config
from forebay_schemas.records import Lane

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """One topic and the group that reads it.

    Attributes:
        end: sum of the offsets at which its partitions end; it grows with what is written.
        lag: records behind what the group has committed: of the job at its last checkpoint, and of workers with those
            that they are generating.
    """

    topic: str
    group: str
    end: int
    lag: int


def readers(config: Config) -> dict[str, str]:
    """The group that reads each topic of requests or tasks.

    Results and replies are not among them: the mark that ends a transaction is a record which no reader commits, and
    the last one in each of their partitions is such a mark, so that their lag would never be 0.
    """
    topics = config.kafka.topics
    requests = (topics.requests, topics.requests_batch, *config.request_topics)
    tasks = {topics.tier(tier, lane): topics.workers_group(tier, lane) for tier in config.tiers for lane in Lane}
    return {**dict.fromkeys(requests, topics.job_group), **tasks}


class Backlogs:
    """Asks the brokers of an installation, over connections that are kept."""

    def __init__(self, config: Config) -> None:
        self._readers = readers(config)
        self._admin = AdminClient(config.kafka.client(client_id="forebay-top") | {"log_level": 0})

    def read(self) -> tuple[Backlog, ...] | None:
        """The backlog of each topic that exists, within seconds; None where the brokers do not answer.

        A reader that never ran is behind by all that there is.
        """
        try:
            places = self._places()
            # librdkafka takes one group at a time, so all are asked before the first is waited for.
            asked = {topic: self._committed(self._readers[topic], those) for topic, those in places.items()}
            every = [place for those in places.values() for place in those]
            begins, ends = self._offsets(every, OffsetSpec.earliest()), self._offsets(every, OffsetSpec.latest())
            committed = {topic: answer.result().topic_partitions for topic, answer in asked.items()}
        except KafkaException:
            return None
        if any(offset < 0 for offset in (*begins.values(), *ends.values())):
            return None  # a broker that is too slow is no error there
        return tuple(
            Backlog(
                topic,
                self._readers[topic],
                end=sum(ends[place] for place in those),
                lag=sum(max(0, ends[place] - max(begins[place], place.offset)) for place in those),
            )
            for topic, those in committed.items()
        )

    def _places(self) -> dict[str, list[TopicPartition]]:
        found = self._admin.list_topics(timeout=_TIMEOUT_S).topics
        return {
            topic: [TopicPartition(topic, number) for number in found[topic].partitions]
            for topic in self._readers
            if topic in found
        }

    def _offsets(self, places: list[TopicPartition], spec: Any) -> dict[TopicPartition, int]:
        asked: dict[TopicPartition, Any] = dict.fromkeys(places, spec)
        listed = self._admin.list_offsets(asked, request_timeout=_TIMEOUT_S)
        return {place: future.result().offset for place, future in listed.items()}

    def _committed(self, group: str, places: list[TopicPartition]) -> Future[Any]:
        asked = [ConsumerGroupTopicPartitions(group, places)]
        return self._admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)[group]
