"""Tells an answer piece by piece while it is generated; the reply, in its transaction, stays what counts."""

import asyncio
import logging

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from forebay_schemas.codec import Codec
from forebay_schemas.records import Chunk, Request, Task
from forebay_schemas.sections import KafkaConfig
from forebay_schemas.topics import Headers

GATHER_MS = 10
"""Pieces that come sooner after the last record wait and go together. The first of a task never waits, and nobody
reads faster than this; with 64 answers at a time it bounds the topic to 6,400 records a second."""
CLOSE_FLUSH_S = 1.0
"""What is not out by then is left to the replies."""

_log = logging.getLogger(__name__)


class ChunkWriter:
    """The producer of the stream topic. Its calls belong on the event loop, and never block it.

    Chunks are a courtesy: outside of transactions, acknowledged by one broker, and where one is lost the client
    takes the text from the reply. What is lost is logged.
    """

    def __init__(self, config: KafkaConfig, codec: Codec) -> None:
        self._topic = config.topics.replies_stream
        self._codec = codec
        self._losing = False
        self._producer = Producer(
            config.client(
                client_id="forebay-worker-chunks",
                acks="1",
                linger_ms=5,  # the pieces of many answers go in one request
                partitioner="murmur2_random",  # as every producer of replies: clients choose keys by it
                message_max_bytes=config.max_wire_bytes,
                logger=logging.getLogger("kafka.chunks"),
            )
            | {"on_delivery": self._delivered}
        )

    def for_task(self, task: Task, request: Request, attempt: int) -> "ChunkStream":
        """Where the pieces of one generation go.

        Args:
            attempt: larger than that of every earlier generation for the request.
        """
        headers = Headers(request_id=request.request_id, tenant=request.tenant, traceparent=task.traceparent)
        return ChunkStream(self, request, attempt, task.reply_key, headers.to_kafka())

    def send(self, chunk: Chunk, key: str, headers: dict[str, bytes]) -> bool:
        """Queue a chunk; False where the queue is full, and the chunk is still the caller's."""
        try:
            self._producer.poll(0)
            self._producer.produce(self._topic, self._codec.encode(chunk), key, headers=list(headers.items()))
        except BufferError:
            return False
        except KafkaException as error:
            self._lost(error.args[0])
        return True

    async def close(self) -> None:
        """Wait briefly for what is queued."""
        await asyncio.to_thread(self._producer.flush, CLOSE_FLUSH_S)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._losing = False
        else:
            self._lost(error)

    def _lost(self, error: KafkaError) -> None:
        if not self._losing:  # once for each outage: there may be thousands
            _log.warning("chunks are not delivered, their clients wait for the replies: %s", error.str())
        self._losing = True


class ChunkStream:
    """The pieces of one generation; call it with each. Fits ``backends.OnText``."""

    __slots__ = ("_attempt", "_finished", "_headers", "_index", "_key", "_request", "_text", "_timer", "_writer")

    def __init__(
        self, writer: ChunkWriter, request: Request, attempt: int, key: str, headers: dict[str, bytes]
    ) -> None:
        self._writer = writer
        self._request = request
        self._attempt = attempt
        self._key = key
        self._headers = headers
        self._index = 0
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False

    def __call__(self, text: str) -> None:
        """Send a further piece, by itself or with what comes right after it."""
        self._text += text
        if self._timer is None:
            self._send()

    def finish(self) -> None:
        """Send what is left, and say that it was the last."""
        self._finished = True
        self._send()

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._text and not self._finished:
            return
        chunk = Chunk(
            request_id=self._request.request_id,
            tenant=self._request.tenant,
            attempt=self._attempt,
            index=self._index,
            text=self._text,
            last=self._finished,
        )
        sent = self._writer.send(chunk, self._key, self._headers)
        if sent:
            self._index += 1
            self._text = ""
        if not sent or not self._finished:
            self._timer = asyncio.get_running_loop().call_later(GATHER_MS / 1000, self._send)
