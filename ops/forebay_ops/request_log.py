"""What an installation's request topics still hold, read without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.kafka_log import kafka_log
from forebay_schemas.codec import Codec
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
    with _consumer(config) as consumer:
        places = [
            TopicPartition(place.topic, place.partition, max(place.offset, end - count))
            for place, end in _partitions(consumer, config)
        ]
        records = list(_records(consumer, places, config))
    codec = codec_for(config)
    found: list[Request] = []
    for _, value in sorted(records, key=lambda record: record[0], reverse=True):
        if len(found) == count:
            break
        if request := _request(codec, value):
            found.append(request)
    return found[::-1]


def requests_since(config: Config, since_ms: int | None) -> Iterator[Request]:
    """The requests that came from a time on (milliseconds since the epoch; None: all), as ``newest_requests`` reads.

    Those of one partition are in their order; how partitions mix is not told. One request is held at a time.

    Raises:
        BrokerUnavailable: as there.
    """
    codec = codec_for(config)
    with _consumer(config) as consumer:
        places = [place for place, _ in _partitions(consumer, config)]
        if since_ms is not None and places:
            places = _at(consumer, places, since_ms, config)
        for _, value in _records(consumer, places, config):
            if request := _request(codec, value):
                yield request


@contextmanager
def _consumer(config: Config) -> Iterator[Consumer]:
    settings = config.kafka.client(
        client_id="forebay-request-log",
        group_id="forebay-request-log",  # librdkafka wants a name, also where nobody joins
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


def _partitions(consumer: Consumer, config: Config) -> list[tuple[TopicPartition, int]]:
    """The partitions that hold anything, at their first records, each with its end."""
    topics = config.kafka.topics
    found: list[tuple[TopicPartition, int]] = []
    for name in (topics.requests, topics.requests_batch, *config.request_topics):
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


def _records(consumer: Consumer, places: list[TopicPartition], config: Config) -> Iterator[tuple[int, bytes]]:
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


def _request(codec: Codec, value: bytes) -> Request | None:
    try:
        return codec.decode(value, Request)
    except RecordError:
        return None
