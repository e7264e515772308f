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
        lag: records behind what the group has committed, those included that are being worked on.
    """

    topic: str
    group: str
    end: int
    lag: int


def readers(config: Config) -> dict[str, str]:
    """The group that reads each topic, in the order in which a request passes them."""
    topics = config.kafka.topics
    requests = (topics.requests, topics.requests_batch, *config.request_topics)
    tiers = {topics.tier(tier, lane): topics.workers_group(tier, lane) for tier in config.tiers for lane in Lane}
    replies = dict.fromkeys((topics.replies, *config.kafka.reply_topics), topics.ledger_group)
    return {**dict.fromkeys(requests, topics.job_group), **tiers, topics.results: topics.job_group, **replies}


class Backlogs:
    """Asks the brokers of an installation, over connections that are kept."""

    def __init__(self, config: Config) -> None:
        self._readers = readers(config)
        self._optional = config.kafka.topics.ledger_group
        self._admin = AdminClient(config.kafka.client(client_id="forebay-top") | {"log_level": 0})

    def read(self) -> tuple[Backlog, ...] | None:
        """The backlog of each topic that exists, within seconds; None while the brokers do not answer.

        A reader that never ran is behind by all that there is; the ledger, which need not run, is left out then.
        """
        try:
            return self._read()
        except KafkaException:
            return None

    def _read(self) -> tuple[Backlog, ...]:
        found = self._admin.list_topics(timeout=_TIMEOUT_S).topics
        places = {
            topic: [TopicPartition(topic, number) for number in found[topic].partitions]
            for topic in self._readers
            if topic in found
        }
        every = [place for those in places.values() for place in those]
        begins, ends = self._listed(every, OffsetSpec.earliest()), self._listed(every, OffsetSpec.latest())
        # librdkafka takes one group at a time, so all are asked before the first is waited for.
        asked = {topic: self._committed(self._readers[topic], those) for topic, those in places.items()}
        backlogs = []
        for topic, answer in asked.items():
            group, committed = self._readers[topic], answer.result().topic_partitions
            if group == self._optional and all(place.offset < 0 for place in committed):
                continue
            lag = sum(max(0, ends[place] - max(begins[place], place.offset)) for place in committed)
            backlogs.append(Backlog(topic, group, sum(ends[place] for place in committed), lag))
        return tuple(backlogs)

    def _listed(self, places: list[TopicPartition], spec: Any) -> dict[TopicPartition, int]:
        asked: dict[TopicPartition, OffsetSpec] = dict.fromkeys(places, spec)
        listed = self._admin.list_offsets(asked, request_timeout=_TIMEOUT_S)
        return {place: future.result().offset for place, future in listed.items()}

    def _committed(self, group: str, places: list[TopicPartition]) -> Future[Any]:
        asked = [ConsumerGroupTopicPartitions(group, places)]
        return self._admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)[group]
