"""Pieces of an answer: numbered, gathered, and never in the way of the generation."""

from typing import Any

import pytest
from confluent_kafka import KafkaError
from forebay_schemas.config import load_config
from forebay_schemas.records import Chunk
from forebay_schemas.topics import Headers
from forebay_workers import chunks
from forebay_workers.chunks import ChunkStream, ChunkWriter

from ..builders import make_request, make_task
from ..waiting import until
from .doubles import CODEC


class MemoryProducer:
    """In place of confluent-kafka's producer: keeps what is produced, unless its queue is full."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.full = False
        self.produced: list[tuple[str, str, Chunk, Headers]] = []
        self.flushed = False

    def configured(self, settings: dict[str, Any]) -> "MemoryProducer":
        self.settings = settings
        return self

    def produce(self, topic: str, value: bytes, key: str, headers: list[tuple[str, bytes | None]]) -> None:
        if self.full:
            raise BufferError
        self.produced.append((topic, key, CODEC.decode(value, Chunk), Headers.from_kafka(headers)))

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        self.flushed = True
        return 0

    @property
    def pieces(self) -> list[tuple[int, str, bool]]:
        return [(chunk.index, chunk.text, chunk.last) for _, _, chunk, _ in self.produced]


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> MemoryProducer:
    memory = MemoryProducer()
    monkeypatch.setattr(chunks, "Producer", memory.configured)
    monkeypatch.setattr(chunks, "GATHER_MS", 3_600_000)  # what is gathered goes when the test says so
    return memory


@pytest.fixture
def writer(producer: MemoryProducer) -> ChunkWriter:
    return ChunkWriter(load_config().kafka, CODEC)


def stream(writer: ChunkWriter, attempt: int = 1) -> ChunkStream:
    request = make_request(request_id="r1", tenant="acme", stream=True)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    return writer.for_task(make_task(request, reply_key="instance-7", traceparent=trace), request, attempt)


async def test_a_chunk_goes_where_the_reply_will_go(writer: ChunkWriter, producer: MemoryProducer) -> None:
    stream(writer, attempt=3)("Hello")
    [(topic, key, chunk, headers)] = producer.produced
    assert (topic, key) == ("llm.replies.stream", "instance-7")
    assert (chunk.request_id, chunk.tenant, chunk.attempt) == ("r1", "acme", 3)
    assert (headers.request_id, headers.tenant) == ("r1", "acme")
    assert headers.traceparent
    assert producer.settings["partitioner"] == "murmur2_random"


async def test_the_first_piece_goes_at_once_and_those_right_after_it_together(
    writer: ChunkWriter, producer: MemoryProducer
) -> None:
    on_text = stream(writer)
    for piece in ("How", " are", " you", "?"):
        on_text(piece)
    assert producer.pieces == [(0, "How", False)]
    on_text.finish()
    assert producer.pieces == [(0, "How", False), (1, " are you?", True)]


async def test_what_was_gathered_goes_without_a_further_piece(
    writer: ChunkWriter, producer: MemoryProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "GATHER_MS", 1)
    on_text = stream(writer)
    on_text("How")
    on_text(" are")
    await until(lambda: producer.pieces == [(0, "How", False), (1, " are", False)])
    on_text.finish()
    assert producer.pieces[2:] == [(2, "", True)]


async def test_two_answers_are_numbered_apart(writer: ChunkWriter, producer: MemoryProducer) -> None:
    stream(writer)("one")
    stream(writer, attempt=2)("two")
    assert [(chunk.attempt, chunk.index) for _, _, chunk, _ in producer.produced] == [(1, 0), (2, 0)]


async def test_a_full_queue_merges_pieces_and_loses_none(
    writer: ChunkWriter, producer: MemoryProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "GATHER_MS", 1)
    producer.full = True
    on_text = stream(writer)
    on_text("How")
    on_text(" are")
    on_text.finish()
    assert producer.pieces == []
    producer.full = False
    await until(lambda: producer.pieces == [(0, "How are", True)])


async def test_an_outage_is_logged_once_and_fails_no_generation(
    writer: ChunkWriter, producer: MemoryProducer, caplog: pytest.LogCaptureFixture
) -> None:
    report = producer.settings["on_delivery"]
    for error in (KafkaError._MSG_TIMED_OUT, KafkaError._MSG_TIMED_OUT):
        report(KafkaError(error), None)
    assert len(caplog.records) == 1
    report(None, None)
    report(KafkaError(KafkaError._MSG_TIMED_OUT), None)
    assert len(caplog.records) == 2


async def test_closing_waits_for_what_is_queued(writer: ChunkWriter, producer: MemoryProducer) -> None:
    await writer.close()
    assert producer.flushed
