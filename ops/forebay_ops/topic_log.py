"""What topics still hold, read from a place or a time to their ends without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from forebay_client.errors import BrokerUnavailable, explain
from forebay_client.reading import RPC_TIMEOUT_S, open_reader, partitions_of
from forebay_schemas.config import Config


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
    """A consumer of what topics hold, closed in the end."""
    with closing(open_reader(config, client_id="forebay-topic-log", group_id="forebay-topic-log")) as consumer:
        yield consumer


def partitions(consumer: Consumer, names: Sequence[str], config: Config) -> list[tuple[TopicPartition, int]]:
    """The partitions of topics that hold anything, at their first records, each with its end.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    found: list[tuple[TopicPartition, int]] = []
    for name in names:
        numbers = partitions_of(consumer, name, config)
        try:
            for partition in numbers:
                low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), RPC_TIMEOUT_S)
                if high > low:
                    found.append((TopicPartition(name, partition, low), high))
        except KafkaException as error:
            raise BrokerUnavailable(explain(error.args[0], name, config.kafka.bootstrap)) from None
    return found


def _at(consumer: Consumer, places: Sequence[TopicPartition], since_ms: int, config: Config) -> list[TopicPartition]:
    """The places of the first records from a time on, of the partitions that have any."""
    wanted = [TopicPartition(place.topic, place.partition, since_ms) for place in places]
    try:
        return [place for place in consumer.offsets_for_times(wanted, RPC_TIMEOUT_S) if place.offset >= 0]
    except KafkaException as error:
        raise BrokerUnavailable(explain(error.args[0], places[0].topic, config.kafka.bootstrap)) from None


def records(consumer: Consumer, places: list[TopicPartition], config: Config) -> Iterator[tuple[int, bytes]]:
    """The time and the value of each record from these places to the ends of their partitions."""
    unread = {(place.topic, place.partition) for place in places}
    consumer.assign(places)
    while unread:
        message = consumer.poll(RPC_TIMEOUT_S)
        if message is None:
            raise BrokerUnavailable(f"{min(unread)[0]} gave nothing for {RPC_TIMEOUT_S:g} s; see that its brokers run")
        error = message.error()
        if error is None:
            yield message.timestamp()[1], message.value() or b""
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard((message.topic() or "", message.partition() or 0))
        elif error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            raise BrokerUnavailable(explain(error, message.topic() or "", config.kafka.bootstrap))
