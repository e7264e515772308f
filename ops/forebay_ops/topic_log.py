"""What topics still hold, read from a place or a time to their ends without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.config import Config

_RPC_TIMEOUT_S = 10.0


def values_since(config: Config, names: Sequence[str], since_ms: int | None) -> Iterator[bytes]:
    """The values of topics from a time on (milliseconds since the epoch; None: all); one is held at a time.

    Those of one partition are in their order; how partitions mix is not told.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    with reading(config) as consumer:
        places = [place for place, _ in partitions(consumer, names, config)]
        if since_ms is not None and places:
            places = _at(consumer, places, since_ms, config)
        for _, value in records(consumer, places, config):
            yield value


@contextmanager
def reading(config: Config) -> Iterator[Consumer]:
    """A consumer that joins no group and commits nothing, so that those who consume the topics are not disturbed."""
    settings = config.kafka.client(
        client_id="forebay-topic-log",
        group_id="forebay-topic-log",  # librdkafka wants a name, also where nobody joins
        enable_auto_commit=False,
        enable_partition_eof=True,
        isolation_level="read_committed",
        fetch_message_max_bytes=config.kafka.max_wire_bytes,
    )
    consumer = Consumer(settings, logger=kafka_log)
    try:
        yield consumer
    finally:
        consumer.close()


def partitions(consumer: Consumer, names: Sequence[str], config: Config) -> list[tuple[TopicPartition, int]]:
    """The partitions of topics that hold anything, at their first records, each with its end.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    found: list[tuple[TopicPartition, int]] = []
    for name in names:
        try:
            topic: Any = consumer.list_topics(name, timeout=_RPC_TIMEOUT_S).topics[name]
            if topic.error:
                raise KafkaException(topic.error)
            for partition in topic.partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), _RPC_TIMEOUT_S)
                if high > low:
                    found.append((TopicPartition(name, partition, low), high))
        except KafkaException as error:
            raise BrokerUnavailable(explain(error.args[0], name, config.kafka.bootstrap)) from None
    return found


def _at(consumer: Consumer, places: Sequence[TopicPartition], since_ms: int, config: Config) -> list[TopicPartition]:
    """The places of the first records from a time on, of the partitions that have any."""
    wanted = [TopicPartition(place.topic, place.partition, since_ms) for place in places]
    try:
        return [place for place in consumer.offsets_for_times(wanted, _RPC_TIMEOUT_S) if place.offset >= 0]
    except KafkaException as error:
        raise BrokerUnavailable(explain(error.args[0], places[0].topic, config.kafka.bootstrap)) from None


def records(consumer: Consumer, places: list[TopicPartition], config: Config) -> Iterator[tuple[int, bytes]]:
    """The time and the value of each record from these places to the ends of their partitions."""
    unread = {(place.topic, place.partition) for place in places}
    consumer.assign(places)
    while unread:
        message = consumer.poll(_RPC_TIMEOUT_S)
        if message is None:
            raise BrokerUnavailable(f"{min(unread)[0]} gave nothing for {_RPC_TIMEOUT_S:g} s; see that its brokers run")
        error = message.error()
        if error is None:
            yield message.timestamp()[1], message.value() or b""
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard((message.topic() or "", message.partition() or 0))
        elif error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            raise BrokerUnavailable(explain(error, message.topic() or "", config.kafka.bootstrap))
