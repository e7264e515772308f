"""What the request topics still hold, on a real broker: the newest requests, and those from a time on."""

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from forebay_client.errors import BrokerUnavailable
from forebay_ops.request_log import newest_requests, requests_since
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Request

from tests.broker import Broker
from tests.builders import NOW_MS, make_request

pytestmark = pytest.mark.stack

SETTINGS = """
[request_topics."acme.requests"]
tenant = "acme"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    broker = Broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker.config
    broker.kill()


def test_the_requests_of_all_topics_are_read(broker: Config) -> None:
    with pytest.raises(BrokerUnavailable, match="forebay topics"):
        newest_requests(broker, 10)
    create_topics(broker)
    assert _once_they_are_there(broker) == []
    topics = broker.kafka.topics
    names = (topics.requests, topics.requests_batch, "acme.requests")
    sent = [make_request(request_id=f"request-{number}") for number in range(30)]
    producer = Producer(broker.kafka.client())
    for number, request in enumerate(sent):
        _produce(producer, names[number % 3], request, NOW_MS + number)
    producer.produce(topics.requests, value=b"no request", timestamp=NOW_MS + 100)
    producer.flush()
    assert newest_requests(broker, 100) == sent
    assert newest_requests(broker, 100) == sent  # reading leaves no trace
    assert newest_requests(broker, 7) == sent[-7:]
    for since_ms, expected in ((None, sent), (NOW_MS + 12, sent[12:]), (NOW_MS + 1000, [])):
        assert sorted(requests_since(broker, since_ms), key=sent.index) == expected


def _once_they_are_there(broker: Config) -> list[Request]:
    """The requests, after the broker has told all its parts about new topics."""
    for _ in range(100):
        try:
            return newest_requests(broker, 10)
        except BrokerUnavailable:
            threading.Event().wait(0.1)
    return newest_requests(broker, 10)


def _produce(producer: Producer, topic: str, request: Request, at_ms: int) -> None:
    producer.produce(topic, key=request.request_id, value=Codec().encode(request), timestamp=at_ms)
