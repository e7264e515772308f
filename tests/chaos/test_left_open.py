"""What Kafka left open is ended, and readers of committed records get past it."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer
from forebay_ops.topics import create_topics

from tests import left_open
from tests.broker import Broker, running_broker
from tests.left_open import abort_left_open, may_be_left_open
from tests.waiting import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def test_an_open_transaction_is_aborted(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    create_topics(broker.config)
    kafka = broker.config.kafka
    held = Producer(kafka.client(transactional_id="held", transaction_timeout_ms=600_000))
    held.init_transactions()
    held.begin_transaction()
    held.produce(kafka.topics.replies, b"open", partition=0)
    held.flush(30)
    plain = Producer(kafka.client())
    plain.produce(kafka.topics.replies, b"behind", partition=0)
    plain.flush(30)
    reader = Consumer(kafka.client(group_id="r", isolation_level="read_committed", auto_offset_reset="earliest"))
    reader.subscribe([kafka.topics.replies])

    def read() -> bytes | None:
        message = reader.poll(0.1)
        return message.value() if message is not None and message.error() is None else None

    assert abort_left_open(broker.config, broker.home) == 0, "it has not been open for long"
    assert [read() for _ in range(30)] == [None] * 30
    monkeypatch.setattr(left_open, "_OPEN_S", 0.0)
    assert abort_left_open(broker.config, broker.home) == 1
    eventually(lambda: read() == b"behind", "what lies behind is read")
    reader.close()
    assert not may_be_left_open(broker.home.root / "kafka.log", 0), "nobody killed the broker"
