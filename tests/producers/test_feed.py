"""Consuming the reply topic as a group: each reply once, progress behind what was handled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from forebay_client import BrokerUnavailable, feed
from forebay_client.feed import READ_BACK_RECORDS, ReplyFeed
from forebay_client.seen import SeenReplies
from forebay_schemas.config import Config
from forebay_schemas.records import Reply
from forebay_schemas.topic_probe import TopicState
from forebay_schemas.topics import Headers

from tests.builders import make_reply
from tests.producers.doubles import CODEC

TOPIC = "llm.replies"
UNSET = -1001


@dataclass
class Log:
    """One partition of a reply topic and its group's committed offset, as a broker holds them."""

    messages: list[Message] = field(default_factory=list)
    committed: int = UNSET
    exists: bool = True
    topic_id: str = "first"
    lost: bool = False
    """Whether the group gave the partition to another member without asking."""

    def write(self, reply: Reply, value: bytes | None = None, headers: Headers | None = None) -> None:
        known = headers or Headers(request_id=reply.request_id, tenant=reply.tenant)
        self.messages.append(
            Message(
                topic=TOPIC,
                partition=0,
                offset=len(self.messages),
                value=value or CODEC.encode(reply),
                headers=list(known.to_kafka().items()),
            )
        )


class MemoryConsumer:
    """In place of confluent-kafka's consumer, on one ``Log``. What is stored counts as committed."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.closed = False
        self._position: int | None = None
        self._on_assign: Callable[[Any, list[TopicPartition]], None] = lambda *_: None

    def subscribe(self, topics: list[str], on_assign: Callable[[Any, list[TopicPartition]], None]) -> None:
        self._on_assign = on_assign

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, place.partition, self.log.committed) for place in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self.log.messages)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        [place] = partitions
        self._position = max(0, self.log.committed) if place.offset == UNSET else place.offset

    def poll(self, timeout: float) -> Message | None:
        if self._position is None:
            self._on_assign(self, [TopicPartition(TOPIC, 0)])
        assert self._position is not None
        if self._position >= len(self.log.messages):
            return None
        self._position += 1
        return self.log.messages[self._position - 1]

    def store_offsets(self, message: Message) -> None:
        if self.log.lost:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.log.committed = (message.offset() or 0) + 1

    def close(self) -> None:
        self.closed = True


class MemoryProbe:
    """In place of the probe, on one ``Log``."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def state(self, topic: str, timeout_s: float) -> TopicState:
        if not self.log.exists:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return TopicState(self.log.topic_id, 1)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def open_feed(log: Log, config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ReplyFeed]:
    monkeypatch.setattr(feed, "Consumer", lambda *_, **__: MemoryConsumer(log))
    monkeypatch.setattr(feed, "TopicProbe", lambda _: MemoryProbe(log))
    monkeypatch.setattr(feed, "_LOOK_EVERY_S", 0.0)
    return lambda group="billing": ReplyFeed(config, CODEC, TOPIC, group, from_beginning=True)


def read(feed: ReplyFeed, polls: int) -> list[str]:
    """The request ids that so many polls bring."""
    return [reply.request_id for _ in range(polls) if (reply := feed.poll(0))]


def test_repeats_are_removed_by_tenant_and_request(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    for tenant, request_id in [("acme", "1"), ("acme", "1"), ("globex", "1"), ("acme", "2"), ("acme", "1")]:
        log.write(make_reply(tenant=tenant, request_id=request_id))
    assert read(open_feed(), 10) == ["1", "1", "2"]


def test_a_reply_counts_as_handled_when_the_next_is_asked_for(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"))
    log.write(make_reply(request_id="2"))
    first = open_feed()
    assert read(first, 2) == ["1", "2"]
    first.close()
    assert log.committed == 1
    assert read(open_feed(), 10) == ["2"]


def test_the_next_member_knows_what_was_handled_before_it(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"))
    log.write(make_reply(request_id="2"))
    first = open_feed()
    read(first, 3)
    first.close()
    log.write(make_reply(request_id="1"))  # a restored job writes again what it wrote before
    log.write(make_reply(request_id="3"))
    assert read(open_feed(), 10) == ["3"]
    assert log.committed == 4


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    for request_id in ("1", "2", "3"):
        log.write(make_reply(request_id=request_id))
    reader = open_feed()
    assert read(reader, 4) == ["1", "2", "3"]
    log.exists = False
    assert read(reader, 2) == []
    log.exists, log.topic_id, log.messages, log.committed = True, "second", [], UNSET
    log.write(make_reply(request_id="4"))
    assert read(reader, 3) == ["4"]
    assert log.committed == 1


def test_reading_back_is_bounded(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    for number in range(READ_BACK_RECORDS + 5):
        log.write(make_reply(request_id=str(number)))
    log.committed = len(log.messages)
    log.write(make_reply(request_id="4"))
    log.write(make_reply(request_id="5"))
    assert read(open_feed(), READ_BACK_RECORDS + 10) == ["4"]


def test_what_is_read_back_does_not_move_the_groups_progress(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    for number in range(5):
        log.write(make_reply(request_id=str(number)))
    log.committed = 5
    assert read(open_feed(), 3) == []
    assert log.committed == 5


def test_records_that_are_no_replies_are_passed_over(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"), value=b"not avro")
    log.write(make_reply(request_id="2"))
    assert read(open_feed(), 10) == ["2"]
    assert log.committed == 2


def test_replies_without_headers_are_not_taken_for_repeats(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"), headers=Headers(bucket="0"))
    log.write(make_reply(request_id="2"), headers=Headers(bucket="0"))
    assert read(open_feed(), 10) == ["1", "2"]


def test_a_partition_that_was_lost_meanwhile_ends_nothing(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"))
    log.write(make_reply(request_id="2"))
    log.lost = True
    assert read(open_feed(), 10) == ["1", "2"]
    assert log.committed == UNSET


def test_a_feed_without_a_group_keeps_no_progress(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply(request_id="1"))
    assert read(open_feed(group=None), 10) == ["1"]
    assert log.committed == UNSET


def test_a_missing_topic_is_said_at_once(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.exists = False
    with pytest.raises(BrokerUnavailable, match=r"llm\.replies does not exist"):
        open_feed()


def test_a_closed_feed_is_silent(log: Log, open_feed: Callable[..., ReplyFeed]) -> None:
    log.write(make_reply())
    feed = open_feed()
    feed.close()
    feed.close()
    assert feed.poll(0) is None


def test_only_the_last_replies_are_remembered() -> None:
    seen = SeenReplies(limit=2)
    assert [seen.add("acme", request_id) for request_id in "12321"] == [True, True, True, False, True]
