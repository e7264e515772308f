"""What an installation's request topics still hold, read without a trace."""

from collections.abc import Callable, Iterator
from itertools import islice

from confluent_kafka import TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request
from forebay_schemas.registry import codec_for

from .topic_log import partitions, reading, records, values_since

_FURTHER_BACK = 4
"""So many times as far as before, where too few of what was read are wanted."""


def newest_requests(config: Config, count: int, wanted: Callable[[Request], bool] = lambda _: True) -> list[Request]:
    """The newest ``count`` wanted requests of all request topics together, oldest first.

    What cannot be read is left out. Where many are not wanted, those of one partition may be older than some of
    another that were not read. No group is joined and nothing is committed, so those who consume the topics are not
    disturbed.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    codec = codec_for(config)
    back = count
    while True:
        with reading(config) as consumer:
            held = partitions(consumer, _topics(config), config)
            places = [
                TopicPartition(place.topic, place.partition, max(place.offset, end - back)) for place, end in held
            ]
            # Of those with equal times, as all of a batch have, the first of a partition stays before the next.
            last = sorted(records(consumer, places, config), key=lambda record: record[0])[::-1]
        requests = (request for _, value in last if (request := _request(codec, value)) and wanted(request))
        found = list(islice(requests, count))
        if len(found) == count or all(end - back <= place.offset for place, end in held):
            return found[::-1]
        back *= _FURTHER_BACK


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
