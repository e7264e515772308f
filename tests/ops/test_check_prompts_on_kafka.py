"""The newest requests of the request topics, on a real broker."""

import logging
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from forebay_client.errors import BrokerUnavailable
from forebay_ops.local import servers
from forebay_ops.local.effective import with_free_ports
from forebay_ops.local.home import Home
from forebay_ops.local.parts import local_parts
from forebay_ops.local.provision import provision
from forebay_ops.prefixes.newest import newest_requests
from forebay_ops.topics import create_topics
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Request

from tests.builders import NOW_MS, make_request

pytestmark = pytest.mark.stack

SETTINGS = """
[local]
start = ["kafka"]
[request_topics."acme.requests"]
tenant = "acme"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    folder = tmp_path_factory.mktemp("broker")
    (folder / "forebay.toml").write_text(SETTINGS)
    home = Home(folder, installed=Path(__file__).parents[2] / ".forebay")
    config = with_free_ports(load_config(folder / "forebay.toml"))
    provision(config, home, logging.info)
    servers.write_kafka(config, home)
    (kafka,) = local_parts(config, home)
    with (folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen(kafka.command, stdout=log, stderr=subprocess.STDOUT)
    try:
        while not kafka.ready():
            assert process.poll() is None, (folder / "kafka.log").read_text()
            threading.Event().wait(0.1)
        yield config
    finally:
        process.kill()
        process.wait()


def test_the_newest_of_all_request_topics_are_read_in_order(broker: Config) -> None:
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
