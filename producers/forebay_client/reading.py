"""Reading topics without a trace."""

from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from forebay_schemas.config import Config

from .errors import BrokerUnavailable, explain
from .kafka_log import kafka_log

RPC_TIMEOUT_S = 10.0

T = TypeVar("T")


def open_reader(config: Config, *, client_id: str, group_id: str, **settings: Any) -> Consumer:
    """A consumer that joins no group and commits nothing, so that those who consume the topics are not disturbed.

    Args:
        group_id: librdkafka wants a name, also where nobody joins; brokers may ask for rights on it.
        settings: of librdkafka besides, with ``_`` for ``.``.
    """
    chosen: dict[str, Any] = {
        "client_id": client_id,
        "group_id": group_id,
        "enable_auto_commit": False,
        "enable_partition_eof": True,
        "isolation_level": "read_committed",
        "fetch_message_max_bytes": config.kafka.max_wire_bytes,
    }
    return Consumer(config.kafka.client(**(chosen | settings)), logger=kafka_log)


def partitions_of(consumer: Consumer, topic: str, config: Config) -> list[int]:
    """The numbers of a topic's partitions.

    Raises:
        BrokerUnavailable: the brokers do not answer, or there is no such topic.
    """
    try:
        found: Any = answered(lambda within_s: consumer.list_topics(topic, timeout=within_s)).topics[topic]
        if found.error:
            raise KafkaException(found.error)
    except KafkaException as error:
        raise BrokerUnavailable(explain(error.args[0], topic, config.kafka.bootstrap)) from None
    return sorted(found.partitions)


def answered(ask: Callable[[float], T]) -> T:
    """What the brokers answer, asked a second time where the first one timed out: a process that stood still for so
    long has not waited for them."""
    try:
        return ask(RPC_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._TIMED_OUT:
            raise
        return ask(RPC_TIMEOUT_S)
