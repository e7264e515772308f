"""A request topic that is deleted and made anew, on a real broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from forebay_jobs.topics_read import TopicsRead
from forebay_ops.topics import create_topics

from tests.broker import Broker, make_anew, running_broker

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def test_it_is_read_from_the_beginning_and_the_others_from_where_they_were(broker: Broker, tmp_path: Path) -> None:
    config, topics = broker.config, broker.config.kafka.topics
    create_topics(config)
    consumer = Consumer(config.kafka.client(group_id=topics.job_group))
    count = len(consumer.list_topics(topics.requests, timeout=30).topics[topics.requests].partitions)

    def committed(topic: str) -> set[int]:
        return {place.offset for place in consumer.committed([TopicPartition(topic, one) for one in range(count)], 30)}

    def commit() -> None:  # as the job does, which knows of nothing
        both = (topics.requests, topics.results)
        places = [TopicPartition(topic, partition, 3) for topic in both for partition in range(count)]
        consumer.commit(offsets=places, asynchronous=False)

    producer = Producer(config.kafka.client())
    for topic in (topics.requests, topics.results):
        for partition in range(count):
            producer.produce(topic, b"x", partition=partition)
    assert producer.flush(30) == 0

    read = TopicsRead(config, tmp_path)
    commit()
    assert read.look()
    read.look()
    assert (read.submit(None), committed(topics.requests)) == ({}, {3})
    assert read.runs("first")

    make_anew(config, topics.requests)
    commit()
    read.look()
    assert read.runs("first"), "a broker may lag behind"
    read.look()
    assert not read.runs("first")
    assert read.submit("file:///first/chk-1").keys() == {topics.requests}
    assert (committed(topics.requests), committed(topics.results)) == ({0}, {3})

    commit()
    read.runs("second")
    read = TopicsRead(config, tmp_path)
    assert read.submit("file:///second/chk-2").keys() == {topics.requests}
    assert committed(topics.requests) == {3}, "what was read since is not read again"
    read.submit("file:///first/chk-1")
    assert committed(topics.requests) == {0}, "the state of then knows nothing of it"
    consumer.close()
