"""Tasks onto a tier's topic as the job writes them, and the replies as a read_committed reader sees them."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Reply, Request, Route, Task
from forebay_schemas.topics import Headers

from .process import BenchFailed

_SILENCE_S = 180
"""Without a single reply for so long, the benchmark has failed."""
QUIET = {"log_level": 0}
"""For clients of a broker that goes away when all is measured; what matters is raised."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A reply, and when a reader saw it: seconds of ``time.monotonic``."""

    reply: Reply
    seen_s: float


class Replies:
    """Reads the replies of an installation, in a thread of its own."""

    def __init__(self, config: Config) -> None:
        settings = {"group_id": "bench", "isolation_level": "read_committed", "enable_auto_commit": False}
        # Measured at the reader, so that it must not add a wait of its own.
        self._consumer = Consumer(config.kafka.client(fetch_wait_max_ms=10, **settings) | QUIET)
        # Every partition is assigned, from its beginning: nothing that is written from here on can be missed.
        topic = config.kafka.topics.replies
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(config.kafka.partitions)]
        )
        self._codec = Codec()
        self._seen: dict[str, Seen] = {}
        self._count = 0
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="replies", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Replies":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def take(self, request_ids: Iterable[str], check: Callable[[], None] = lambda: None) -> dict[str, Seen]:
        """Wait for the replies to all of these requests; they are forgotten here.

        Args:
            check: called now and then while nothing comes; raises when nothing will come any more.

        Raises:
            BenchFailed: no reply has come for a long time, or one is an error.
        """
        wanted = list(request_ids)
        missing = list(wanted)
        with self._changed:
            count, deadline = -1, 0.0
            while missing:
                if missing[-1] in self._seen:
                    missing.pop()
                    continue
                if self._count != count:
                    count, deadline = self._count, time.monotonic() + _SILENCE_S
                if time.monotonic() > deadline:
                    raise BenchFailed(f"a task of {len(wanted)} got no reply, and none came for {_SILENCE_S} s")
                if not self._changed.wait(1.0):
                    check()
            found = {request_id: self._seen.pop(request_id) for request_id in wanted}
        for seen in found.values():
            if seen.reply.error is not None:
                raise BenchFailed(f"a task was answered with an error: {seen.reply.error.message}")
        return found

    def _read(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and not message.error():
                self._note(message)

    def _note(self, message: Message) -> None:
        seen_s = time.monotonic()
        reply = self._codec.decode(message.value() or b"", Reply)
        with self._changed:
            self._seen[reply.request_id] = Seen(reply, seen_s)
            self._count += 1
            self._changed.notify_all()


class Tasks:
    """Writes tasks for the one tier of an installation."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._codec = Codec()
        self._producer = Producer(config.kafka.client(linger_ms=1, partitioner="murmur2_random") | QUIET)
        self._count = 0

    def send(self, requests: Iterable[Request], tier: str = "only", key: str | None = None) -> None:
        """Write the tasks of these requests and wait until the broker has them."""
        self.write([self.record(request, tier, key) for request in requests])
        self._producer.flush()

    def write(self, records: Iterable[dict[str, Any]]) -> None:
        """Write records without waiting."""
        for record in records:
            self._producer.produce(**record)
            self._producer.poll(0)

    def record(self, request: Request, tier: str = "only", key: str | None = None) -> dict[str, Any]:
        """The record of a request's task, for ``write``; without a key its request's id is the key."""
        topics = self._config.kafka.topics
        self._count += 1
        task = Task(
            task_id=f"t{self._count}-{request.request_id}",
            flight_key=request.request_id,
            bucket="0",
            request=self._codec.encode(request),
            route=Route(tier=tier, complexity=0.0, confidence=1.0, reason="complexity"),
            cache_status=CacheStatus.MISS,
            accepted_ms=request.created_ms,
            reply_topic=topics.replies,
            reply_key=request.request_id,
        )
        headers = Headers(request_id=request.request_id, tenant=request.tenant, task=f"{task.task_id}/0")
        return {
            "topic": topics.tier(tier, request.lane),
            "value": self._codec.encode(task),
            "key": key or request.request_id,
            "headers": headers.to_kafka(),
        }


def paced(rate_per_s: float, sends: Iterable[Callable[[], object]]) -> list[float]:
    """Send at a steady rate, and return when each was due: seconds of ``time.monotonic``.

    Latency counts from then: a sender that is held up would else leave out the very waits that hold it up.
    """
    began = time.monotonic()
    due = []
    for number, send in enumerate(sends):
        due.append(began + number / rate_per_s)
        time.sleep(max(0.0, due[-1] - time.monotonic()))
        send()
    return due
