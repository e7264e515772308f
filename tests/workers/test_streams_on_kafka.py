"""Pieces and commands between real clients, a real broker and the workers' ends, while the broker is restarted."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from confluent_kafka import Consumer, Message, Producer
from forebay_client import AsyncClient, AsyncStream
from forebay_ops.topics import create_topics
from forebay_schemas.config import Config
from forebay_schemas.records import Control, Request
from forebay_schemas.topics import Headers
from forebay_workers.chunks import ChunkWriter
from forebay_workers.control import ControlReader

from ..broker import Broker
from ..builders import make_reply, make_task
from ..waiting import until
from .doubles import CODEC

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    create_topics(broker.config)
    yield broker
    broker.kill()


@pytest.fixture
def config(broker: Broker) -> Config:
    return broker.config


@pytest.fixture
async def client(config: Config) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("acme", config=config) as client:
        yield client


@contextlib.asynccontextmanager
async def hearing(config: Config) -> AsyncIterator[tuple[ControlReader, list[str]]]:
    """A reader of commands that runs, and the tasks whose cancellation it was told."""
    told: list[str] = []
    reader = ControlReader(config.kafka, CODEC, told.append)
    running = asyncio.create_task(reader.run())
    yield reader, told
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def find(config: Config, topic: str, wanted: Callable[[Message], bool]) -> Message:
    """The first such record of a topic."""
    consumer = Consumer(config.kafka.client(group_id=uuid.uuid4().hex, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    try:
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            message = consumer.poll(0.5)
            if message is not None and not message.error() and wanted(message):
                return message
    finally:
        consumer.close()
    raise AssertionError(f"no such record on {topic}")


def sent_by(config: Config, stream: AsyncStream) -> tuple[Request, Headers]:
    """The request of a stream as the job reads it."""
    message = find(config, config.kafka.topics.requests, lambda message: message.key() == stream.request_id.encode())
    headers: list[tuple[str, bytes | None]] = message.headers() or []  # pyright: ignore[reportAssignmentType]
    return CODEC.decode(message.value() or b"", Request), Headers.from_kafka(headers)


def produce(config: Config, topic: str, value: bytes, key: str, headers: Headers | None = None) -> None:
    producer = Producer(config.kafka.client(partitioner="murmur2_random"))
    producer.produce(topic, value, key, headers=list((headers or Headers()).to_kafka().items()))
    assert producer.flush(30) == 0


def command(config: Config, name: str, **arguments: str) -> None:
    issued_ms = time.time_ns() // 1_000_000
    record = Control(key=uuid.uuid4().hex, command=name, issued_ms=issued_ms, issued_by="job", arguments=arguments)
    produce(config, config.kafka.topics.control, CODEC.encode(record), record.key)


async def test_pieces_reach_the_one_client_that_streams_before_its_reply(client: AsyncClient, config: Config) -> None:
    async with client.stream("How?", timeout_s=120) as stream, AsyncClient("acme", config=config) as other:
        request, headers = await asyncio.to_thread(sent_by, config, stream)
        bystander = await stream_begun(other)
        writer = ChunkWriter(config.kafka, CODEC)
        on_text = writer.for_task(make_task(request, reply_key=headers.reply_key), request, attempt=1)
        on_text("Like")
        assert await anext(stream) == "Like"
        on_text(" this")
        assert await anext(stream) == " this"
        on_text.finish()
        reply = make_reply(request_id=request.request_id, tenant="acme", text="Like this.")
        address = Headers(request_id=request.request_id, tenant="acme")
        produce(config, config.kafka.topics.replies, CODEC.encode(reply), headers.reply_key or "", address)
        assert [piece async for piece in stream] == ["."]
        await writer.close()
        await bystander.aclose()
    assert stream.reply.text == "Like this."


async def stream_begun(client: AsyncClient) -> AsyncStream:
    return await client.stream("And how is this?", timeout_s=120).__aenter__()


async def test_leaving_a_stream_tells_the_job(client: AsyncClient, config: Config) -> None:
    async with client.stream("How?", timeout_s=120) as stream:
        pass

    def cancels(message: Message) -> bool:
        control = CODEC.decode(message.value() or b"", Control)
        return control.arguments == {"tenant": "acme", "request_id": stream.request_id}

    found = await asyncio.to_thread(find, config, config.kafka.topics.control, cancels)
    assert CODEC.decode(found.value() or b"", Control).command == "cancel"


async def test_commands_reach_all_workers_also_after_the_broker_was_away(broker: Broker, config: Config) -> None:
    async with hearing(config) as (one, told), hearing(config) as (_, also_told):
        command(config, "cancel_task", task_id="t1")
        await until(lambda: "t1" in told and "t1" in also_told)
        produce(config, config.kafka.topics.control, b"garbage", "k")
        broker.kill()
        await asyncio.to_thread(broker.start)
        command(config, "cancel_task", task_id="t2")
        await until(lambda: "t2" in told and "t2" in also_told)
        assert one.is_cancelled("t1")
        assert one.is_cancelled("t2")


async def test_a_worker_that_starts_later_knows_what_was_cancelled_before(config: Config) -> None:
    command(config, "cancel_task", task_id="t3")
    async with hearing(config) as (reader, _):
        await until(lambda: reader.is_cancelled("t3"))
