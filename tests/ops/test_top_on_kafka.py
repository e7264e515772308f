"""The lag that `forebay top` shows, on a real broker."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from forebay_ops.top.backlog import Backlog, Backlogs
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config
from forebay_schemas.records import Lane

from tests.broker import Broker
from tests.waiting import eventually

pytestmark = pytest.mark.stack

SETTINGS = """
[request_topics."acme.requests"]
tenant = "acme"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker
    broker.kill()


def test_lag_is_what_the_reader_has_not_committed_until_nobody_can_tell(broker: Broker) -> None:
    config = broker.config
    topics = config.kafka.topics
    create_topics(config)
    tasks, group = topics.tier("small", Lane.INTERACTIVE), topics.workers_group("small", Lane.INTERACTIVE)
    _write(config, tasks, 10)
    _write(config, "acme.requests", 3)
    _commit(config, group, TopicPartition(tasks, 0, 4))

    backlogs = Backlogs(config)
    # Its parts learn one after another of new topics and groups.
    eventually(
        lambda: _find(backlogs, tasks) == Backlog(tasks, group, end=10, lag=6), "the broker tells of the backlog"
    )
    assert _find(backlogs, "acme.requests") == Backlog("acme.requests", topics.job_group, end=3, lag=3)
    assert _find(backlogs, topics.requests) == Backlog(topics.requests, topics.job_group, end=0, lag=0)
    broker.kill()
    assert backlogs.read() is None


def _find(backlogs: Backlogs, topic: str) -> Backlog | None:
    return next((each for each in backlogs.read() or () if each.topic == topic), None)


def _write(config: Config, topic: str, records: int) -> None:
    producer = Producer(config.kafka.client())
    for _ in range(records):
        producer.produce(topic, b"a record", partition=0)
    producer.flush()


def _commit(config: Config, group: str, progress: TopicPartition) -> None:
    consumer = Consumer(config.kafka.client(group_id=group))
    consumer.commit(offsets=[progress], asynchronous=False)
    consumer.close()
