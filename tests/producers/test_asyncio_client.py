"""The asyncio client: the same answers and errors, and an event loop that is never held up."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import pytest
from forebay_client import AsyncClient, ClientClosed, InvalidRequest, Reply, ReplyTimeout, RequestFailed
from forebay_schemas.config import Config
from forebay_schemas.records import Chunk, ReplyError

from tests.builders import make_reply
from tests.producers.doubles import MemoryKafka, silence
from tests.waiting import until


@pytest.fixture
async def client(kafka: MemoryKafka, config: Config) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("acme", config=config) as client:
        yield client


async def test_many_tasks_get_their_own_answers_over_one_consumer(client: AsyncClient, kafka: MemoryKafka) -> None:
    questions = [f"question {number}" for number in range(200)]
    replies = await asyncio.gather(*(client.ask(question) for question in questions))
    assert [reply.text for reply in replies] == questions
    assert len(kafka.inboxes) == 1


async def test_errors_are_those_of_the_other_client(client: AsyncClient, kafka: MemoryKafka) -> None:
    error = ReplyError(code="engine_failed", message="no luck", retryable=True)
    kafka.answer = lambda request: [make_reply(request_id=request.request_id, error=error)]
    with pytest.raises(RequestFailed):
        await client.ask("Hello?")
    kafka.answer = silence
    with pytest.raises(ReplyTimeout):
        await client.ask("Hello?", timeout_s=0.2)


async def test_callbacks_run_in_the_event_loop(client: AsyncClient) -> None:
    came: asyncio.Future[tuple[Reply, asyncio.AbstractEventLoop]] = asyncio.Future()
    request_id = await client.publish(
        "Hello?", on_reply=lambda reply: came.set_result((reply, asyncio.get_running_loop()))
    )
    reply, loop = await asyncio.wait_for(came, 10)
    assert reply.request_id == request_id
    assert loop is asyncio.get_running_loop()


async def test_a_cancelled_task_stops_waiting(client: AsyncClient, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    asking = asyncio.create_task(client.ask("Hello?"))
    while not kafka.sent:
        await asyncio.sleep(0.001)
    while await client.wait(0.001) != 1:
        pass
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await client.wait(10) == 0


async def test_the_loop_goes_on_while_the_brokers_keep_one_waiting(
    client: AsyncClient, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, went_on = asyncio.get_running_loop(), asyncio.Event()
    find_partition = kafka.inbox

    def slow(config: Config, topic: str, reply_key: str, timeout_s: float) -> object:
        asyncio.run_coroutine_threadsafe(went_on.wait(), loop).result(10)
        return find_partition(config, topic, reply_key, timeout_s)

    monkeypatch.setattr("forebay_client.core.Inbox", slow)
    asking = asyncio.create_task(client.ask("Hello?"))
    await asyncio.sleep(0)
    went_on.set()
    assert (await asking).text == "Hello?"


async def test_closing_fails_those_who_wait_and_what_comes_later(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = silence
    async with AsyncClient("acme", config=config) as client:
        asking = asyncio.create_task(client.ask("Hello?"))
        while not kafka.sent:
            await asyncio.sleep(0.001)
        while await client.wait(0.001) != 1:
            pass
    with pytest.raises(ClientClosed):
        await asking
    with pytest.raises(ClientClosed):
        await client.ask("Hello?")


# --- streaming and cancelling -----------------------------------------------------------------------------------


def piece_of(kafka: MemoryKafka, index: int, text: str) -> None:
    request = kafka.sent[-1].request
    kafka.chunk(Chunk(request_id=request.request_id, tenant=request.tenant, attempt=1, index=index, text=text))


def reply_of(kafka: MemoryKafka, text: str) -> None:
    request = kafka.sent[-1].request
    kafka.reply(make_reply(request_id=request.request_id, tenant=request.tenant, text=text))


async def test_a_stream_gives_pieces_as_they_come_and_then_the_reply(client: AsyncClient, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    stream = client.stream("How?")
    assert kafka.sent == []
    async with stream:
        piece_of(kafka, 0, "Like")
        assert await anext(stream) == "Like"
        piece_of(kafka, 1, " this")
        assert await anext(stream) == " this"
        reply_of(kafka, "Like this.")
        assert [piece async for piece in stream] == ["."]
    assert (stream.reply.text, stream.reply.request_id) == ("Like this.", stream.request_id)
    await client.cancel("another")
    assert kafka.cancelled == [("acme", "another")]


async def test_a_stream_publishes_when_its_iteration_begins(client: AsyncClient) -> None:
    assert [piece async for piece in client.stream("Hello?")] == ["Hello?"]


async def test_a_stream_that_is_never_begun_publishes_and_cancels_nothing(
    client: AsyncClient, kafka: MemoryKafka
) -> None:
    client.stream("How?")
    await client.ask("Hello?")
    assert len(kafka.sent) == 1
    assert kafka.cancelled == []


async def test_errors_of_a_stream_are_those_of_the_other_client(client: AsyncClient, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    with pytest.raises(InvalidRequest):
        await anext(client.stream("How?", max_tokens=-1))
    with pytest.raises(ReplyTimeout):
        await anext(client.stream("How?", timeout_s=0.2))


async def test_leaving_a_stream_early_cancels_its_request(client: AsyncClient, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    async with client.stream("How?", request_id="r1") as stream:
        piece_of(kafka, 0, "Like")
        assert await anext(stream) == "Like"
    await until(lambda: kafka.cancelled == [("acme", "r1")])
    assert [piece async for piece in stream] == []


async def test_letting_go_of_a_stream_cancels_its_request(client: AsyncClient, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    stream = client.stream("How?", request_id="r1")
    reading = asyncio.create_task(anext(stream))
    await until(lambda: kafka.sent)
    piece_of(kafka, 0, "Like")
    assert await reading == "Like"
    del stream, reading
    gc.collect()
    await until(lambda: kafka.cancelled == [("acme", "r1")])


@pytest.mark.parametrize("way", ["ask", "stream"])
async def test_cancelling_the_task_cancels_its_request(client: AsyncClient, kafka: MemoryKafka, way: str) -> None:
    kafka.answer = silence
    asking = asyncio.ensure_future(client.ask("Hello?") if way == "ask" else anext(client.stream("Hello?")))
    await until(lambda: kafka.sent)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: kafka.cancelled == [("acme", kafka.sent[0].request.request_id)])
    assert await client.wait(10) == 0


async def test_cancelling_the_task_while_it_publishes_cancels_its_request(
    client: AsyncClient, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.answer = silence
    publishing, go_on = threading.Event(), threading.Event()
    find_partition = kafka.inbox

    def slow(config: Config, topic: str, reply_key: str, timeout_s: float) -> object:
        publishing.set()
        go_on.wait(10)
        return find_partition(config, topic, reply_key, timeout_s)

    monkeypatch.setattr("forebay_client.core.Inbox", slow)
    asking = asyncio.create_task(client.ask("Hello?", request_id="r1"))
    await until(publishing.is_set)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await until(lambda: kafka.cancelled == [("acme", "r1")])


async def test_a_cancelled_ask_is_cancelled_also_where_the_client_is_closed_at_once(
    kafka: MemoryKafka, config: Config
) -> None:
    kafka.answer = silence
    async with AsyncClient("acme", config=config) as client:
        asking = asyncio.create_task(client.ask("Hello?", request_id="r1"))
        await until(lambda: kafka.sent)
        await client.publish("so that the one before is published")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert kafka.cancelled == [("acme", "r1")]
