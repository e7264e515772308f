"""Job and workers of an example: a thread that answers on a real broker as a test says."""

import threading
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from confluent_kafka import Consumer, Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Chunk, Control, Feedback, Record, Reply, Request
from forebay_schemas.topics import Headers

from tests.builders import make_reply

CODEC = Codec()
R = TypeVar("R", bound=Record)


def echo(request: Request) -> Sequence[Reply | Chunk]:
    """Answers with the question."""
    text = request.messages[-1].content or ""
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text=text)]


class StandIn:
    """Reads what services write, and answers the requests.

    Attributes:
        answer: what is said to a request: its reply, after pieces of it where it is streamed.
    """

    def __init__(self, config: Config, answer: Callable[[Request], Sequence[Reply | Chunk]] = echo) -> None:
        self.answer = answer
        topics = config.kafka.topics
        self._kinds = {
            topics.requests: Request,
            topics.requests_batch: Request,
            topics.feedback: Feedback,
            topics.control: Control,
        }
        self._topics = topics
        self._read: list[tuple[Record, Headers]] = []
        self._consumer = Consumer(
            config.kafka.client(group_id="stand-in", auto_offset_reset="earliest", enable_auto_commit=True)
        )
        self._producer = Producer(config.kafka.client(partitioner="murmur2_random"))  # as all writers of replies
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def read(self, kind: type[R]) -> list[R]:
        """What services wrote of a kind, in order."""
        return [record for record, _ in list(self._read) if isinstance(record, kind)]

    def headers(self, request_id: str) -> Headers:
        """Those that a request came with."""
        return next(headers for _, headers in list(self._read) if headers.request_id == request_id)

    def __enter__(self) -> Self:
        self._consumer.subscribe(list(self._kinds))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()
        self._producer.flush(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error():
                continue
            record = CODEC.decode(message.value() or b"", self._kinds[message.topic() or ""])
            headers = Headers.from_kafka(message.headers())  # pyright: ignore[reportArgumentType]: bytes, when read
            self._read.append((record, headers))
            for said in self.answer(record) if isinstance(record, Request) else ():
                topic = self._topics.replies if isinstance(said, Reply) else self._topics.replies_stream
                ids = Headers(request_id=said.request_id, tenant=said.tenant).to_kafka()
                key = headers.reply_key or said.request_id
                self._producer.produce(topic, CODEC.encode(said), key, headers=list(ids.items()))
            self._producer.poll(0)
