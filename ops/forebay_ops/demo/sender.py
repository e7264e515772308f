"""Sends lines into a running stack: through the client, and around it what the client would rightly refuse."""

import hashlib
import threading
import time
from contextlib import ExitStack
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from forebay_client import Client
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import DeadLetter, Reply
from forebay_schemas.registry import codec_for
from forebay_schemas.topics import Headers

from .player import OnAnswer
from .script import Line

_POLL_S = 0.1
_BROKER_TIMEOUT_S = 10


class KafkaSender:
    """A ``Sender`` with one client for all tenants. Use it as a context manager.

    Args:
        config: of the running stack.
        run: names this run of the demo.
    """

    def __init__(self, config: Config, run: str) -> None:
        self._run = run
        self._codec = codec_for(config)
        self._open = ExitStack()
        self._client = self._open.enter_context(Client(config=config))
        self._raw = self._open.enter_context(_RawChannel(config, self._codec))

    def __enter__(self) -> "KafkaSender":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def send(self, line: Line, on_answer: OnAnswer) -> None:
        now_ms = time.time_ns() // 1_000_000
        if line.tenant and line.raw is None and not line.unchecked:
            self._client.publish(line.request(self._run, now_ms), on_reply=on_answer)
            return
        request_id = line.request_id(self._run) if line.tenant else None
        headers = Headers(request_id=request_id, tenant=line.tenant)
        value = line.raw.encode() if line.raw is not None else self._codec.encode(line.request(self._run, now_ms))
        self._raw.send(value, headers, on_answer)


class _RawChannel:
    """Writes bytes to the request topic, and reads all replies and dead letters for those that answer them."""

    def __init__(self, config: Config, codec: Codec) -> None:
        topics = config.kafka.topics
        self._topics = topics
        self._codec = codec
        self._awaited: dict[str, OnAnswer] = {}
        self._producer = Producer(config.kafka.client(linger_ms=0))
        self._consumer = Consumer(config.kafka.client(group_id="forebay-demo", enable_auto_commit=False))
        self._consumer.assign([part for topic in (topics.replies, topics.dead) for part in self._ends(topic)])
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name="demo-raw", daemon=True)

    def __enter__(self) -> "_RawChannel":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._reader.join()
        self._consumer.close()
        self._producer.close()  # else it goes on calling brokers that have been stopped

    def send(self, value: bytes, headers: Headers, on_answer: OnAnswer) -> None:
        # A dead letter without a request id is known by the digest of what was sent.
        for key in filter(None, (headers.request_id, hashlib.sha256(value).hexdigest())):
            self._awaited[key] = on_answer
        self._producer.produce(self._topics.requests, value, headers=list(headers.to_kafka().items()))
        self._producer.flush(_BROKER_TIMEOUT_S)

    def _ends(self, topic: str) -> list[TopicPartition]:
        """Where the topic ends now, so that nothing sent from here on is missed, nor anything older read."""
        metadata: Any = self._consumer.list_topics(topic, timeout=_BROKER_TIMEOUT_S).topics[topic]
        ends = []
        for partition in metadata.partitions:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _BROKER_TIMEOUT_S)
            ends.append(TopicPartition(topic, partition, end))
        return ends

    def _read(self) -> None:
        while not self._closing.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is not None and message.error() is None:
                self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        value = message.value() or b""
        try:
            if message.topic() == self._topics.dead:
                letter = self._codec.decode(value, DeadLetter)
                on_answer, answer = self._awaited.get(letter.value_digest), letter
            else:
                answer = self._codec.decode(value, Reply)
                on_answer = self._awaited.get(answer.request_id)
        except RecordError:  # another user of a stack that was already running
            return
        if on_answer:
            on_answer(answer)
