"""The newest requests of an installation's request topics, read without a trace."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request
from forebay_schemas.registry import codec_for

_RPC_TIMEOUT_S = 10.0


def newest_requests(config: Config, count: int) -> list[Request]:
    """The newest ``count`` requests of all request topics together, oldest first; what cannot be read is left out.

    No group is joined and nothing is committed, so those who consume the topics are not disturbed.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    topics = config.kafka.topics
    names = [topics.requests, topics.requests_batch, *config.request_topics]
    settings = config.kafka.client(
        client_id="forebay-check-prompts",
        group_id="forebay-check-prompts",  # librdkafka wants a name, also where nobody joins
        enable_auto_commit=False,
        enable_partition_eof=True,
        isolation_level="read_committed",
        fetch_message_max_bytes=config.kafka.max_wire_bytes,
    )
    consumer = Consumer(settings, logger=kafka_log)
    try:
        records = _read(consumer, _last(consumer, names, count, config), config)
    finally:
        consumer.close()
    codec = codec_for(config)
    found: list[Request] = []
    for _, value in sorted(records, key=lambda record: record[0], reverse=True):
        if len(found) == count:
            break
        try:
            found.append(codec.decode(value, Request))
        except RecordError:
            continue
    return found[::-1]


def _last(consumer: Consumer, names: Sequence[str], count: int, config: Config) -> list[TopicPartition]:
    """The places from which each partition has ``count`` records."""
    places = []
    for name in names:
        try:
            found: Any = consumer.list_topics(name, timeout=_RPC_TIMEOUT_S).topics[name]
            if found.error:
                raise KafkaException(found.error)
            for partition in found.partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), _RPC_TIMEOUT_S)
                if high > low:
                    places.append(TopicPartition(name, partition, max(low, high - count)))
        except KafkaException as error:
            raise BrokerUnavailable(explain(error.args[0], name, config.kafka.bootstrap)) from None
    return places


def _read(consumer: Consumer, places: list[TopicPartition], config: Config) -> list[tuple[int, bytes]]:
    """The time and the value of each record from these places to the ends of their partitions."""
    records: list[tuple[int, bytes]] = []
    unread = {(place.topic, place.partition) for place in places}
    consumer.assign(places)
    while unread:
        message = consumer.poll(_RPC_TIMEOUT_S)
        if message is None:
            raise BrokerUnavailable(f"{min(unread)[0]} gave nothing for {_RPC_TIMEOUT_S:g} s; see that its brokers run")
        error = message.error()
        if error is None:
            records.append((message.timestamp()[1], message.value() or b""))
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard((message.topic() or "", message.partition() or 0))
        elif error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            raise BrokerUnavailable(explain(error, message.topic() or "", config.kafka.bootstrap))
    return records
