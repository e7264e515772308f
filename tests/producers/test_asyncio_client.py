"""The asyncio client: the same answers and errors, and an event loop that is never held up."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from forebay_client import AsyncClient, ClientClosed, Reply, ReplyTimeout, RequestFailed
from forebay_schemas.config import Config
from forebay_schemas.records import ReplyError

from tests.builders import make_reply
from tests.producers.doubles import MemoryKafka, silence


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
