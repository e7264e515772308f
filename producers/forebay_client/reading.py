"""Reading topics without a trace."""

from typing import Any

from confluent_kafka import Consumer, KafkaException
from forebay_schemas.config import Config

from .errors import BrokerUnavailable, explain
from .kafka_log import kafka_log

RPC_TIMEOUT_S = 10.0


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
        found: Any = consumer.list_topics(topic, timeout=RPC_TIMEOUT_S).topics[topic]
        if found.error:
            raise KafkaException(found.error)
    except KafkaException as error:
        raise BrokerUnavailable(explain(error.args[0], topic, config.kafka.bootstrap)) from None
    return sorted(found.partitions)
