"""A reply topic that is deleted and made anew, on a broker that was killed before: its leaders' epochs begin anew."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import Producer
from forebay_client import feed, inbox
from forebay_client.feed import ReplyFeed
from forebay_client.inbox import Inbox
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config
from forebay_schemas.topics import Headers

from tests.broker import Broker, make_anew, running_broker
from tests.builders import make_reply
from tests.waiting import eventually

from .doubles import CODEC

pytestmark = pytest.mark.stack

KEY = "instance-7"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def answer(config: Config, request_id: str) -> None:
    reply = make_reply(request_id=request_id)
    headers = Headers(request_id=request_id, tenant=reply.tenant).to_kafka()
    producer = Producer(config.kafka.client())
    producer.produce(config.kafka.topics.replies, CODEC.encode(reply), key=KEY, headers=list(headers.items()))
    assert producer.flush(30) == 0


def in_inbox(reader: Inbox) -> str | None:
    record = reader.poll(0.1)
    return Headers.from_kafka(record.headers).request_id if record else None


def in_feed(reader: ReplyFeed) -> str | None:
    reply = reader.poll(0.1)
    return reply.request_id if reply else None


def test_its_readers_go_on_with_the_new_one(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "_METADATA_EVERY_S", 0.5)
    monkeypatch.setattr(feed, "_LOOK_EVERY_S", 0.5)
    config, topic = broker.config, broker.config.kafka.topics.replies
    create_topics(config)
    with (
        closing(Inbox(config, topic, KEY, 30)) as own,
        closing(ReplyFeed(config, CODEC, topic, "billing", from_beginning=True)) as shared,
    ):
        readers: list[Callable[[], str | None]] = [lambda: in_inbox(own), lambda: in_feed(shared)]

        def all_read(request_id: str) -> None:
            answer(config, request_id)
            for read in readers:
                eventually(lambda read=read: read() == request_id, f"{request_id} is read", timeout_s=60)

        all_read("before")
        broker.kill()
        broker.start()
        all_read("after the kill")
        make_anew(config, topic)
        all_read("in the new topic")
