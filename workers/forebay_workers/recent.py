"""Tasks that were written before: a restored job writes some again, and they must not be generated again.

A repeat lies in the partition of the first, at most as far behind it as the job writes between two checkpoints. So the
names of the newest tasks of each partition are enough, and whoever takes a partition over reads them from the log.
"""

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Mapping

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from forebay_schemas.sections import KafkaConfig
from forebay_schemas.topics import TASK

from .offsets import Partition

REMEMBERED = 10_000
"""Tasks of each partition that are known by name."""
_TIMEOUT_S = 20.0
"""For the next of them. Without them a task that was written twice might be answered twice, so it is an error."""

_ANSWER_S = 5.0
_RETRY_S = 0.2


class RecentTasks:
    """The names of the newest tasks, by partition."""

    def __init__(self) -> None:
        self._names: defaultdict[Partition, OrderedDict[str, None]] = defaultdict(OrderedDict)

    def is_repeat(self, partition: Partition, name: str) -> bool:
        """Note a task in the order of the log; whether its name was noted before."""
        names = self._names[partition]
        known = name in names
        names[name] = None
        names.move_to_end(name)
        if len(names) > REMEMBERED:
            names.popitem(last=False)
        return known

    def forget(self, partition: Partition) -> None:
        """The partition belongs to another process."""
        self._names.pop(partition, None)


def read_back(config: KafkaConfig, ends: Mapping[Partition, int], recent: RecentTasks) -> None:
    """Note the newest tasks before ``ends`` (exclusive offsets). Blocks.

    Raises:
        KafkaException: the brokers did not give them in time.
    """
    if not ends:
        return
    consumer = Consumer(
        config.client(
            group_id=f"{config.topic_prefix}-workers-recent",  # librdkafka wants a name; no group is joined
            enable_auto_commit=False,
            enable_partition_eof=False,
            isolation_level="read_committed",  # a task handed on in a transaction that was aborted comes again
            auto_offset_reset="earliest",
            fetch_message_max_bytes=config.max_wire_bytes,
            logger=logging.getLogger("kafka.consumer"),
        )
    )
    try:
        _read(consumer, ends, recent)
    finally:
        consumer.close()


def _read(consumer: Consumer, ends: Mapping[Partition, int], recent: RecentTasks) -> None:
    positions: dict[Partition, int] = {}
    for partition, end in ends.items():
        first = _first(consumer, partition)
        if max(first, end - REMEMBERED) < end:
            positions[partition] = max(first, end - REMEMBERED)
    consumer.assign([TopicPartition(*partition, start) for partition, start in positions.items()])
    until_s = time.monotonic() + _TIMEOUT_S
    while positions and time.monotonic() < until_s:
        for message in consumer.consume(500, 0.1):
            if message.error():
                continue
            partition, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            if partition in positions and offset < ends[partition]:
                name = next((value for key, value in message.headers() or () if key == TASK), None)
                if name is not None:
                    recent.is_repeat(partition, name if isinstance(name, str) else name.decode(errors="replace"))
        # The position also moves over what is no record: markers, or records that were compacted away.
        for place in consumer.position([TopicPartition(*partition) for partition in positions]):
            partition = (place.topic, place.partition)
            if place.offset != OFFSET_INVALID and place.offset > positions[partition]:
                positions[partition] = place.offset
                until_s = time.monotonic() + _TIMEOUT_S
            if positions[partition] >= ends[partition]:
                del positions[partition]
                consumer.incremental_unassign([TopicPartition(*partition)])
    if positions:
        problem = f"reading the recent tasks of {sorted(positions)} got no further in {_TIMEOUT_S:g} s"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, problem))


def _first(consumer: Consumer, partition: Partition) -> int:
    """The first offset that is left of a partition; its leader may still be elected."""
    until_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            first, _ = consumer.get_watermark_offsets(TopicPartition(*partition), _ANSWER_S)
            return first
        except KafkaException:
            if time.monotonic() > until_s:
                raise
            time.sleep(_RETRY_S)
