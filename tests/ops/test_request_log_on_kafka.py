"""What the request topics still hold, on a real broker: the newest requests, and those from a time on."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
)
from forebay_client.errors import BrokerUnavailable
from forebay_ops.request_log import newest_requests, requests_since
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Request

from tests.broker import Broker
from tests.builders import NOW_MS, make_request

pytestmark = pytest.mark.stack

_YEAR_MS = 365 * 86_400_000

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
    assert create_topics(broker).warnings == ()
    _keep_the_times_of_writers(broker, names)
    (warning,) = create_topics(broker).warnings
    assert warning.startswith("llm.requests, llm.requests.batch, acme.requests: records are dated by their writers")
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


def test_a_request_is_as_old_as_its_record_whatever_the_clock_of_its_writer_says(broker: Config) -> None:
    kafka = broker.kafka.model_copy(update={"topic_prefix": "clocks"})
    config = broker.model_copy(update={"kafka": kafka})
    create_topics(config)
    began_ms = round(time.time() * 1000)
    sent = [make_request(request_id=f"request-{years}") for years in (-10, 0, 10)]
    producer = Producer(config.kafka.client())
    for request, years in zip(sent, (-10, 0, 10), strict=True):
        at_ms = began_ms + years * _YEAR_MS
        producer.produce(kafka.topics.requests, Codec().encode(request), timestamp=at_ms, partition=0)
    assert producer.flush(30) == 0
    assert newest_requests(config, 2) == sent[1:]  # of one time, as records of a batch are
    assert sorted(requests_since(config, began_ms - 1000), key=sent.index) == sent


def _keep_the_times_of_writers(config: Config, topics: Sequence[str]) -> None:
    kept = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    changed = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[kept]) for topic in topics]
    admin = AdminClient(config.kafka.client())
    for future in admin.incremental_alter_configs(changed).values():
        future.result()


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
