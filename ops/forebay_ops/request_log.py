"""What an installation's request topics still hold, read without a trace."""

from collections.abc import Iterator

from confluent_kafka import TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request
from forebay_schemas.registry import codec_for

from .topic_log import partitions, reading, records, values_since


def newest_requests(config: Config, count: int) -> list[Request]:
    """The newest ``count`` requests of all request topics together, oldest first; what cannot be read is left out.

    No group is joined and nothing is committed, so those who consume the topics are not disturbed.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    with reading(config) as consumer:
        places = [
            TopicPartition(place.topic, place.partition, max(place.offset, end - count))
            for place, end in partitions(consumer, _topics(config), config)
        ]
        last = list(records(consumer, places, config))
    codec = codec_for(config)
    found: list[Request] = []
    for _, value in sorted(last, key=lambda record: record[0], reverse=True):
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
    for value in values_since(config, _topics(config), since_ms):
        if request := _request(codec, value):
            yield request


def _topics(config: Config) -> list[str]:
    topics = config.kafka.topics
    return [topics.requests, topics.requests_batch, *config.request_topics]


def _request(codec: Codec, value: bytes) -> Request | None:
    try:
        return codec.decode(value, Request)
    except RecordError:
        return None
