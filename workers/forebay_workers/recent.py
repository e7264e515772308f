"""Tasks that were written before: a restored job writes some again, and they must not be generated again.

A repeat lies in the partition of the first, at most as far behind it as the job writes between two checkpoints. So the
names of the newest tasks of each partition are enough, and whoever takes a partition over reads them from the log.
"""

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from forebay_schemas.sections import KafkaConfig
from forebay_schemas.topics import TASK

from .offsets import Partition

REMEMBERED = 10_000
"""Tasks of each partition that are known by name at most."""
READ_BYTES = 128 * 2**20
"""What a take-over reads of all its partitions at most to know them: a rebalance waits for it, some seconds. Of large
tasks that is fewer than ``REMEMBERED``, but still more than a job writes between two checkpoints."""
_TIMEOUT_S = 20.0
"""For the next of them. Without them a task that was written twice might be answered twice, so it is an error."""

_FIRST = 8
_GROWTH = 8
"""Tasks of each partition that are read first, and how many times as many are read next."""
_LARGEST_AT_ONCE = 4
_POLL_S = 0.05
_ANSWER_S = 5.0
_RETRY_S = 0.2

_log = logging.getLogger(__name__)


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
    """Note the newest tasks before ``ends`` (exclusive offsets), as many as ``READ_BYTES`` hold. Blocks.

    Raises:
        KafkaException: the brokers did not give them in time.
    """
    if not ends:
        return
    began_s = time.monotonic()
    few = _LARGEST_AT_ONCE * config.max_wire_bytes  # what lies behind the end of a range is fetched in vain
    consumer = Consumer(
        config.client(
            group_id=f"{config.topic_prefix}-workers-recent",  # librdkafka wants a name; no group is joined
            enable_auto_commit=False,
            enable_partition_eof=False,
            isolation_level="read_committed",  # a task handed on in a transaction that was aborted comes again
            auto_offset_reset="earliest",
            fetch_message_max_bytes=config.max_wire_bytes,
            fetch_max_bytes=few,
            queued_max_messages_kbytes=few // 1024,
            fetch_queue_backoff_ms=10,
            fetch_wait_max_ms=10,  # at the end of a log nothing is waited for
            logger=logging.getLogger("kafka.consumer"),
        )
    )
    try:
        noted = _note(consumer, ends, recent)
    finally:
        consumer.close()
    _log.info("knows the newest %d tasks of %d partitions, %.1f s", noted, len(ends), time.monotonic() - began_s)


def _note(consumer: Consumer, ends: Mapping[Partition, int], recent: RecentTasks) -> int:
    """Read from the newest back, each time further than before, and not further than the bytes last; returns how many.

    How large tasks are is known from the newest few, so those are read by themselves.
    """
    oldest = {partition: max(_first(consumer, partition), end - REMEMBERED) for partition, end in ends.items()}
    reached = dict(ends)
    names: dict[Partition, list[str]] = {partition: [] for partition in ends}
    left_bytes, records, count = READ_BYTES, 0, _FIRST
    while ranges := {
        partition: range(max(oldest[partition], start - count), start)
        for partition, start in reached.items()
        if count > 0 and start > oldest[partition]
    }:
        older: defaultdict[Partition, list[str]] = defaultdict(list)
        for partition, name, size in _records(consumer, ranges):
            if name is not None:
                older[partition].append(name)
            records += 1
            left_bytes -= size
            if left_bytes <= 0:
                break
        for partition, found in older.items():
            names[partition][:0] = found
        reached |= {partition: offsets.start for partition, offsets in ranges.items()}
        count *= _GROWTH
        if (spent_bytes := READ_BYTES - left_bytes) > 0:
            count = min(count, left_bytes * records // (spent_bytes * len(ranges)))
    for partition, newest in names.items():
        for name in newest:
            recent.is_repeat(partition, name)
    return sum(map(len, names.values()))


def _records(consumer: Consumer, ranges: Mapping[Partition, range]) -> Iterator[tuple[Partition, str | None, int]]:
    """Of each record within these offsets the partition, the task's name and the size in bytes; each log in order.

    Raises:
        KafkaException: the brokers did not give them in time.
    """
    positions = {partition: offsets.start for partition, offsets in ranges.items()}
    consumer.assign([TopicPartition(*partition, start) for partition, start in positions.items()])
    until_s = time.monotonic() + _TIMEOUT_S
    while positions and time.monotonic() < until_s:
        for message in consumer.consume(500, _POLL_S):
            if message.error():
                continue
            partition, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            if partition in positions and offset < ranges[partition].stop:
                name = next((value for key, value in message.headers() or () if key == TASK), None)
                text = name.decode(errors="replace") if isinstance(name, bytes) else name
                yield partition, text, len(message.value() or b"")
        # The position also moves over what is no record: markers, or records that were compacted away.
        for place in consumer.position([TopicPartition(*partition) for partition in positions]):
            partition = (place.topic, place.partition)
            if place.offset != OFFSET_INVALID and place.offset > positions[partition]:
                positions[partition] = place.offset
                until_s = time.monotonic() + _TIMEOUT_S
            if positions[partition] >= ranges[partition].stop:
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
