"""Workers as processes on a real broker, with topics of one test's own."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
)
from forebay_ops.local.effective import write_settings
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config
from forebay_schemas.records import DeadLetter, Lane, Reply
from forebay_schemas.topics import Headers
from forebay_workers.offsets import Partition

from ..builders import make_request, make_task
from ..waiting import eventually
from .doubles import CODEC


def with_own_topics(config: Config) -> Config:
    """The configuration with topics that nobody else uses, and workers without a metrics port."""
    kafka = config.kafka.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}"})
    metrics = config.metrics.model_copy(update={"worker_port": 0})
    return config.model_copy(update={"kafka": kafka, "metrics": metrics})


class Installation:
    """Topics of one test, the workers on them, and what they published."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.topics = config.kafka.topics
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = folder / "workers.log"
        self._file = folder / "forebay.toml"
        write_settings(config, self._file)
        create_topics(config)
        self._admin = AdminClient(config.kafka.client())
        # On one that had none yet the first record was once not written, and the next one took its place.
        eventually(self._led, "every partition has its leader")
        # Idempotent: on topics this new the first records may be sent twice, and would change places with later ones.
        self._producer = Producer(config.kafka.client(enable_idempotence=True))
        self._unwritten: list[KafkaError] = []

    def worker(self, *options: str, metrics_port: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "forebay_workers", *options]
        port = {"FOREBAY_METRICS__WORKER_PORT": str(metrics_port)}
        environment = os.environ | port | {"FOREBAY_CONFIG": str(self._file)}
        with self.log.open("ab") as log:
            self.workers.append(subprocess.Popen(command, env=environment, stderr=log))
        return self.workers[-1]

    def send(
        self,
        number: int,
        tier: str = "small",
        lane: Lane = Lane.INTERACTIVE,
        about: str = "question",
        to: str | None = None,
    ) -> None:
        request_id = f"r{number}"
        now_ms = round(time.time() * 1000)
        request = make_request(f"{about} {number}", request_id=request_id, lane=lane, created_ms=now_ms)
        task = make_task(request, task_id=f"t{number}", reply_topic=to or self.topics.replies, reply_key=request_id)
        self.produce(CODEC.encode(task), tier, lane, key=task.task_id, headers=Headers(task=f"{task.task_id}/0"))

    def produce(
        self,
        value: bytes,
        tier: str = "small",
        lane: Lane = Lane.INTERACTIVE,
        key: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        topic, raw = self.topics.tier(tier, lane), (headers or Headers()).to_kafka()
        self._producer.produce(topic, value, key, headers=list(raw.items()), on_delivery=self._note)
        self._producer.poll(0)

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._unwritten.append(error)

    def flush(self) -> None:
        """Wait until all that was sent is written."""
        self._producer.flush()
        assert self._unwritten == []

    def _led(self) -> bool:
        topics = self._admin.list_topics(timeout=10).topics.values()
        return all(partition.leader >= 0 for topic in topics for partition in topic.partitions.values())

    def read(
        self, topic: str, until: Callable[[list[bytes]], bool], timeout_s: float = 120, more: bool = True
    ) -> list[bytes]:
        """What a read_committed reader sees from the topic's beginning until that is enough.

        Args:
            more: read on to the end of each partition and until nothing more comes, so that what should not have come
                is seen too.
        """
        settings = {"group_id": uuid.uuid4().hex, "isolation_level": "read_committed", "auto_offset_reset": "earliest"}
        consumer = Consumer(self.config.kafka.client(**settings, enable_partition_eof=True))
        consumer.subscribe([topic])
        values: list[bytes] = []
        end = time.monotonic() + timeout_s
        at_end: set[int | None] = set()
        enough = False
        while time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is None:
                if enough and at_end.issuperset(at.partition for at in consumer.assignment()):
                    break
            elif (error := message.error()) is None:
                values.append(message.value() or b"")
                at_end.discard(message.partition())
                enough = enough or until(values)
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            if enough and not more:
                break
        consumer.close()
        assert enough, (
            f"after {timeout_s} s only {len(values)} records on {topic}; not written: {self._unwritten};"
            f" the workers:\n{self.log.read_text()}"
        )
        return values

    def replies_so_far(self, count: int) -> list[Reply]:
        """The replies that are committed, as soon as there are as many."""
        values = self.read(self.topics.replies, lambda values: len(values) >= count, more=False)
        return [CODEC.decode(value, Reply) for value in values]

    def replies(self, count: int) -> list[Reply]:
        """All replies, once there are replies to that many requests."""

        def all_answered(values: list[bytes]) -> bool:
            return len(values) >= count and len({CODEC.decode(value, Reply).request_id for value in values}) == count

        return [CODEC.decode(value, Reply) for value in self.read(self.topics.replies, all_answered)]

    def final_replies(self, count: int) -> list[Reply]:
        """All replies once every task is committed, so that no worker has anything left to publish."""
        end = time.monotonic() + 120
        while (left := self._left()) is not None:
            assert time.monotonic() < end, f"{left}; the workers:\n{self.log.read_text()}"
            threading.Event().wait(0.2)
        return self.replies(count)

    def _left(self) -> str | None:
        """Which group is not seen to be at the end of its topic."""
        kafka = self.config.kafka
        for topic, group in [
            (self.topics.tier(tier, lane), self.topics.workers_group(tier, lane))
            for tier in self.config.tiers
            for lane in Lane
        ]:
            consumer = Consumer(kafka.client(group_id=group))  # it only asks, and does not join
            try:
                for at in consumer.committed([TopicPartition(topic, n) for n in range(kafka.partitions)], timeout=10):
                    _, end = consumer.get_watermark_offsets(at, timeout=10)
                    if end > max(at.offset, 0):
                        return f"tasks are left: {group} is at {at.offset} of {end} in {topic}/{at.partition}"
            except KafkaException as error:  # a broker that just came back elects its leaders
                return f"where {group} is cannot be asked for: {error}"
            finally:
                consumer.close()
        return None

    def dead_letters(self, count: int) -> list[DeadLetter]:
        values = self.read(self.topics.dead, lambda values: len(values) == count)
        return [CODEC.decode(value, DeadLetter) for value in values]

    def committed(self, tier: str = "small") -> int:
        """How many records of a tier's interactive topic its group has behind it."""
        group = ConsumerGroupTopicPartitions(f"{self.config.kafka.topic_prefix}-workers-{tier}")
        (future,) = self._admin.list_consumer_group_offsets([group]).values()
        return sum(partition.offset for partition in future.result().topic_partitions)

    def ends(self, tier: str = "small") -> dict[Partition, int]:
        """Where the partitions of a tier's interactive topic end."""
        topic = self.topics.tier(tier, Lane.INTERACTIVE)
        consumer = Consumer(self.config.kafka.client(group_id=uuid.uuid4().hex))
        partitions = [TopicPartition(topic, number) for number in range(self.config.kafka.partitions)]
        ends = {(topic, at.partition): consumer.get_watermark_offsets(at, timeout=10)[1] for at in partitions}
        consumer.close()
        return ends

    def limit(self, topic: str, record_bytes: int) -> None:
        """Let a topic take no larger records."""
        limit = ConfigEntry("max.message.bytes", str(record_bytes), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[limit])
        self._admin.incremental_alter_configs([resource])[resource].result()

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result()
        while topic in self._admin.list_topics().topics:
            threading.Event().wait(0.1)

    def close(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            worker.wait()
