"""A broker in memory that a test steers: it delivers or not, answers or not, and repeats itself when told to."""

import contextlib
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay_client.errors import BrokerUnavailable
from forebay_client.inbox import ReplyRecord
from forebay_client.outbox import DELIVERY_TIMEOUT_S, OnDelivery
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Chunk, Control, Event, Feedback, Reply, Request
from forebay_schemas.topics import Headers

from tests.builders import NOW_MS, make_reply

CODEC = Codec()


def echo(request: Request) -> list[Reply]:
    """Answers with the question."""
    text = request.messages[-1].content or ""
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text)]


def applied(command: Control, **attributes: str) -> list[Event]:
    """What the job says of an invalidation that it applied, unless ``attributes`` say something else of it."""
    said = {**command.arguments, "outcome": "applied", **attributes}
    return [Event(event="invalidation", source="job", happened_ms=NOW_MS, attributes=said)]


def silence(_: Any) -> list[Any]:
    """Answers nothing."""
    return []


@dataclass(frozen=True)
class Sent:
    """A record as it was published."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers

    @property
    def request(self) -> Request:
        return CODEC.decode(self.value, Request)

    @property
    def feedback(self) -> Feedback:
        return CODEC.decode(self.value, Feedback)


@dataclass
class MemoryKafka:
    """The broker. Replies and chunks reach every inbox of theirs, as if all reply keys hashed to one partition.

    Attributes:
        answer: what job and workers reply to a request.
        delivery: the outcome of every publication, None for success; ``no_delivery`` leaves it open for ever.
        full: whether the queue of a producer has no room, as when the brokers take nothing.
        reachable: whether an inbox can find its partition.
        acknowledge: what the job says to a command.
    """

    answer: Callable[[Request], list[Reply]] = echo
    delivery: str | None = None
    no_delivery: bool = False
    full: bool = False
    reachable: bool = True
    acknowledge: Callable[[Control], list[Event]] = silence
    sent: list[Sent] = field(default_factory=list)
    controls: list[Sent] = field(default_factory=list)
    thumbs: list[Sent] = field(default_factory=list)
    inboxes: list["MemoryInbox"] = field(default_factory=list)

    def outbox(self, config: Config) -> "MemoryOutbox":
        return MemoryOutbox(self)

    def inbox(self, config: Config, topic: str, reply_key: str, timeout_s: float) -> "MemoryInbox":
        if not self.reachable:
            raise BrokerUnavailable("no broker answers")
        inbox = MemoryInbox(topic, reply_key)
        self.inboxes.append(inbox)
        return inbox

    def reply(self, reply: Reply, value: bytes | None = None, traceparent: str | None = None) -> None:
        """Write one reply; ``value`` in place of its encoded form."""
        headers = Headers(request_id=reply.request_id, tenant=reply.tenant, traceparent=traceparent).to_kafka()
        record = ReplyRecord(list(headers.items()), value or CODEC.encode(reply))
        for inbox in self.inboxes:
            if not inbox.streams:
                inbox.records.put(record)

    def chunk(self, chunk: Chunk, value: bytes | None = None) -> None:
        """Write one piece of an answer; ``value`` in place of its encoded form."""
        headers = Headers(request_id=chunk.request_id, tenant=chunk.tenant).to_kafka()
        record = ReplyRecord(list(headers.items()), value or CODEC.encode(chunk))
        for inbox in self.inboxes:
            if inbox.streams:
                inbox.records.put(record)

    def say(self, event: Event) -> None:
        """Write one event."""
        for inbox in self.inboxes:
            if inbox.topic.endswith(".events"):
                inbox.records.put(ReplyRecord([], CODEC.encode(event)))

    @property
    def commands(self) -> list[Control]:
        """The commands that were published, in order."""
        return [CODEC.decode(sent.value, Control) for sent in self.controls]

    @property
    def cancelled(self) -> list[tuple[str, str]]:
        """Tenant and request id of each request that was taken back, in order."""
        return [(command.arguments["tenant"], command.arguments["request_id"]) for command in self.commands]


class MemoryOutbox:
    """In place of ``outbox.Outbox``."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._reports: queue.SimpleQueue[tuple[OnDelivery, str | None]] = queue.SimpleQueue()

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Mapping[str, bytes],
        on_delivery: OnDelivery,
        wait_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        until_s = time.monotonic() + wait_s
        while self._kafka.full and time.monotonic() < until_s:
            time.sleep(0.01)
        if self._kafka.full:
            raise BrokerUnavailable("the queue is full")
        sent = Sent(topic, key, value, Headers.from_kafka(dict(headers)))
        beside = {"control": self._kafka.controls, "feedback": self._kafka.thumbs}.get(topic.rpartition(".")[2])
        (self._kafka.sent if beside is None else beside).append(sent)
        if self._kafka.no_delivery:
            return
        self._reports.put((on_delivery, self._kafka.delivery))
        if self._kafka.delivery is None and beside is self._kafka.controls:
            for event in self._kafka.acknowledge(CODEC.decode(value, Control)):
                self._kafka.say(event)
        if self._kafka.delivery is None and beside is None:
            for reply in self._kafka.answer(sent.request):
                self._kafka.reply(reply, traceparent=sent.headers.traceparent)

    def serve(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                on_delivery, outcome = self._reports.get_nowait()
                on_delivery(outcome)

    def flush(self, timeout_s: float) -> int:
        self.serve()
        return len(self._kafka.sent) if self._kafka.no_delivery else 0

    def close(self) -> None:
        pass


class MemoryInbox:
    """In place of ``inbox.Inbox``."""

    def __init__(self, topic: str, reply_key: str) -> None:
        self.topic = topic
        self.reply_key = reply_key
        self.records: queue.SimpleQueue[ReplyRecord] = queue.SimpleQueue()
        self.closed = False

    @property
    def streams(self) -> bool:
        return self.topic.endswith(".stream")

    def poll(self, timeout_s: float) -> ReplyRecord | None:
        try:
            return self.records.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        self.closed = True
