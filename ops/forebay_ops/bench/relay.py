"""A worker without a model: replies to each task at once, with transactions or without.

``python -m forebay_ops.bench.relay CONFIG INTERVAL`` serves the tier ``only``. With an interval in milliseconds the
replies of so long are one transaction with the progress they stand for, by the worker's own code. With ``plain`` each
is produced by itself, and the progress is committed apart from it: a crash in between makes repeats.
"""

import asyncio
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheStatus, Lane, Reply, Result, Task
from forebay_workers.offsets import Commit
from forebay_workers.outcome import OutgoingRecord
from forebay_workers.transactions import Share, Transactions

_POLL_S = 0.1
_PLAIN_COMMIT_MS = 100
_COMMITS_A_TRY = 100


class _Plain:
    """Idempotent produce; librdkafka commits what is stored now and then."""

    gather_s = 0.0

    def __init__(self, config: Config, consumer: Consumer, replying: "_Replying") -> None:
        settings = {"enable_idempotence": True, "linger_ms": 1, "partitioner": "murmur2_random"}
        self._producer = Producer(config.kafka.client(**settings))
        self._consumer = consumer
        self._replying = replying

    async def publish(self, messages: list[Message]) -> None:
        for message in messages:
            for record in self._replying.records(message):
                self._producer.produce(record.topic, record.value, record.key)
            self._consumer.store_offsets(message)
        self._producer.poll(0)


class _Grouped:
    """The worker's transactions."""

    def __init__(self, config: Config, consumer: Consumer, replying: "_Replying", interval_ms: float) -> None:
        self.gather_s = interval_ms / 1000
        self._transactions = Transactions(config.kafka)
        self._consumer = consumer
        self._replying = replying
        self._open = False

    async def publish(self, messages: list[Message]) -> None:
        if not self._open:
            await self._transactions.open()
            self._open = True
        ends = {
            (message.topic() or "", message.partition() or 0): Commit((message.offset() or 0) + 1, "")
            for message in messages
        }
        records = [record for message in messages for record in self._replying.records(message)]
        share = Share(messages[0].topic() or "", records, self._consumer.consumer_group_metadata(), ends)
        for _ in range(_COMMITS_A_TRY):  # refused while the group is in the middle of a rebalance
            if (await self._transactions.commit([share])).topics:
                return
            self._consumer.poll(0)
        raise SystemExit("the transactions are refused")


class _Replying:
    """The records that a worker would publish for a task."""

    def __init__(self, config: Config) -> None:
        self._topics = config.kafka.topics
        self._codec = Codec()

    def records(self, message: Message) -> list[OutgoingRecord]:
        task = self._codec.decode(message.value() or b"", Task)
        completed_ms = int(time.time() * 1000)
        reply = Reply(
            request_id=task.reply_key,
            tenant="bench",
            completed_ms=completed_ms,
            cache_status=CacheStatus.MISS,
            text="Print the label from your account.",
            finish_reason="stop",
            synthetic=True,
        )
        encoded = self._codec.encode(reply)
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=encoded)
        return [
            OutgoingRecord(self._topics.replies, task.reply_key, encoded, {}),
            OutgoingRecord(self._topics.results, task.bucket, self._codec.encode(result), {}),
        ]


async def main(config: Config, interval: str) -> None:
    consumer = Consumer(
        config.kafka.client(
            group_id=f"{config.kafka.topic_prefix}-relay",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            enable_auto_commit=interval == "plain",
            enable_auto_offset_store=False,
            auto_commit_interval_ms=_PLAIN_COMMIT_MS,
        )
    )
    consumer.subscribe([config.kafka.topics.tier("only", Lane.INTERACTIVE)])
    replying = _Replying(config)
    if interval == "plain":
        publisher = _Plain(config, consumer, replying)
    else:
        publisher = _Grouped(config, consumer, replying, float(interval))
    while True:
        if messages := _gathered(consumer, publisher.gather_s):
            await publisher.publish(messages)


def _gathered(consumer: Consumer, gather_s: float) -> list[Message]:
    """The next record, and what comes within the time after it. Nothing else runs here, so that polls may block."""
    first = consumer.poll(_POLL_S)
    messages = [first]
    end = time.monotonic() + gather_s
    while messages[0] is not None and (left := end - time.monotonic()) > 0:
        messages.append(consumer.poll(left))
    return [message for message in messages if message is not None and not message.error()]


if __name__ == "__main__":
    asyncio.run(main(load_config(Path(sys.argv[1])), sys.argv[2]))
