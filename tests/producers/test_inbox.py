"""A client reads the one partition of its reply key, from the end, and follows when partitions are added."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition
from forebay_client import BrokerUnavailable, inbox
from forebay_client.inbox import Inbox
from forebay_client.reply_key import partition_of
from forebay_schemas.config import Config
from forebay_schemas.topic_probe import TopicState

TOPIC = "llm.replies"
KEY = "instance-7"
END = 1000


class MemoryBroker:
    """In place of the consumer and the probe: partitions that all end at ``END``, and what was assigned."""

    def __init__(self) -> None:
        self.partitions = 4
        self.topic_id = "first"
        self.away: KafkaError | None = None
        self.told: KafkaError | None = None
        """An error that every poll brings."""
        self.electing = 0
        """How many more questions the partition has no leader to answer."""
        self.since_then = OFFSET_END
        self.assigned: list[tuple[int, int]] = []
        self.closed = False

    def state(self, topic: str, timeout_s: float) -> TopicState:
        if self.away:
            raise KafkaException(self.away)
        return TopicState(self.topic_id, self.partitions)

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        if self.electing:
            self.electing -= 1
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return 0, END

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, place.partition, self.since_then) for place in partitions]

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += [(place.partition, place.offset) for place in partitions]

    def poll(self, timeout: float) -> Any:
        return SimpleNamespace(error=lambda: self.told) if self.told else None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    memory = MemoryBroker()
    monkeypatch.setattr(inbox, "Consumer", lambda *_, **__: memory)
    monkeypatch.setattr(inbox, "TopicProbe", lambda *_, **__: memory)
    monkeypatch.setattr(inbox, "_METADATA_EVERY_S", 0.0)
    return memory


def home(partitions: int) -> int:
    return partition_of(KEY.encode(), partitions)


def test_only_the_keys_partition_is_read_from_its_end_on(broker: MemoryBroker, config: Config) -> None:
    Inbox(config, TOPIC, KEY, timeout_s=1).poll(0)
    assert broker.assigned == [(home(4), END)]


@pytest.mark.parametrize(("since_then", "start"), [(OFFSET_END, END), (990, 990)])
def test_when_partitions_are_added_both_are_read_and_nothing_in_between_is_missed(
    broker: MemoryBroker, config: Config, since_then: int, start: int
) -> None:
    reader = Inbox(config, TOPIC, KEY, timeout_s=1)
    broker.since_then = since_then
    broker.partitions = next(count for count in range(5, 50) if home(count) != home(4))
    reader.poll(0)
    reader.poll(0)
    assert broker.assigned == [(home(4), END), (home(broker.partitions), start)]


def test_a_topic_that_was_made_anew_is_read_from_its_beginning_by_a_consumer_that_knows_nothing_of_the_old_one(
    broker: MemoryBroker, config: Config
) -> None:
    reader = Inbox(config, TOPIC, KEY, timeout_s=1)
    reader.poll(0)
    assert not broker.closed
    broker.topic_id = "second"
    broker.partitions = next(count for count in range(5, 50) if home(count) != home(4))
    reader.poll(0)
    reader.poll(0)
    assert broker.closed
    assert broker.assigned[0] == (home(4), END)
    both = sorted({home(4), home(broker.partitions)})
    assert broker.assigned[1:] == [(number, OFFSET_BEGINNING) for number in both], "also where others may still write"


def test_the_election_of_a_leader_is_waited_for_as_long_as_there_is_time(
    broker: MemoryBroker, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_ELECTION_POLL_S", 0.0)
    broker.electing = 3
    Inbox(config, TOPIC, KEY, timeout_s=10)
    assert broker.assigned == [(home(4), END)]
    broker.electing = 3
    with pytest.raises(BrokerUnavailable):
        Inbox(config, TOPIC, KEY, timeout_s=0)


def test_brokers_that_go_away_later_do_not_end_the_reading(broker: MemoryBroker, config: Config) -> None:
    reader = Inbox(config, TOPIC, KEY, timeout_s=1)
    broker.away = KafkaError(KafkaError._TRANSPORT)
    assert reader.poll(0) is None


def test_brokers_that_are_away_are_told_now_and_then_and_a_refusal_ends_the_reading(
    broker: MemoryBroker, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Inbox(config, TOPIC, KEY, timeout_s=1)
    broker.told = KafkaError(KafkaError._ALL_BROKERS_DOWN)
    assert [reader.poll(0) for _ in range(100)] == [None] * 100
    assert len(caplog.records) == 1
    broker.told = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(BrokerUnavailable, match="may not use"):
        reader.poll(0)


@pytest.mark.parametrize(
    ("code", "message"),
    [(KafkaError._TRANSPORT, r"kafka\.bootstrap"), (KafkaError.UNKNOWN_TOPIC_OR_PART, "forebay topics")],
)
def test_brokers_that_are_away_at_first_are_an_error_that_says_what_to_do(
    broker: MemoryBroker, config: Config, code: int, message: str
) -> None:
    broker.away = KafkaError(code)
    with pytest.raises(BrokerUnavailable, match=message):
        Inbox(config, TOPIC, KEY, timeout_s=1)
    assert broker.closed
