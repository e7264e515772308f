"""What is refused before it is read, and what is told whether or not it is."""

import asyncio
from typing import Any

import httpx
import pytest
from forebay_client import BrokerUnavailable
from forebay_schemas.config import Config, changed
from openai import APIStatusError, AsyncOpenAI, OpenAI

from tests.gateway.running import Gateway, gateway_on
from tests.gateway.test_chat import HELLO
from tests.producers.doubles import MemoryKafka, echo, silence
from tests.waiting import eventually, until


def test_a_body_that_no_record_could_hold_is_refused(openai: OpenAI, kafka: MemoryKafka, gateway: Gateway) -> None:
    turns: Any = [{"role": "user", "content": "x" * 3_000_000}]
    with pytest.raises(APIStatusError) as refused:
        openai.chat.completions.create(model="auto", messages=turns)
    assert (refused.value.status_code, refused.value.code) == (413, "too_large")

    def in_chunks() -> Any:
        yield from (b"x" * 100_000 for _ in range(30))

    answer = httpx.post(f"{gateway.url}/chat/completions", content=in_chunks())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert kafka.sent == []


def test_a_request_that_is_larger_than_a_record_says_so(openai: OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "x" * 1_100_000}]
    with pytest.raises(APIStatusError, match="above kafka") as refused:
        openai.chat.completions.create(model="auto", messages=turns)
    assert (refused.value.status_code, refused.value.code) == (413, "too_large")


async def test_beyond_its_limit_of_calls_it_says_come_again(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = silence
    with gateway_on(changed(config, {"gateway": {"max_inflight": 2}})) as gateway:
        async with AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as openai:
            create = openai.chat.completions.create
            waiting = [asyncio.create_task(create(model="auto", messages=HELLO)) for _ in range(2)]
            await until(lambda: len(kafka.sent) == 2)
            with pytest.raises(APIStatusError) as refused:
                await create(model="auto", messages=HELLO)
            assert (refused.value.status_code, refused.value.code) == (503, "overloaded")
            assert refused.value.response.headers["retry-after"] == "1"
            assert httpx.get(f"{gateway.address}/healthz").status_code == 200
            for sent in list(kafka.sent):
                kafka.reply(echo(sent.request)[0])
            await asyncio.gather(*waiting)


def test_everything_that_is_not_there_is_said_in_openais_shape(gateway: Gateway) -> None:
    for method, path, status in (("GET", "/v1/audio/speech", 404), ("PUT", "/v1/models", 405), ("GET", "/x", 404)):
        answer = httpx.request(method, gateway.address + path)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert path in answer.json()["error"]["message"]
    answer = httpx.post(f"{gateway.url}/chat/completions", content="{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_gateway_that_can_read_no_reply_any_more_asks_to_be_started_anew(
    gateway: Gateway, openai: OpenAI, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: float) -> None:
        raise BrokerUnavailable("this user may not use llm.replies")

    openai.chat.completions.create(model="auto", messages=HELLO)
    assert httpx.get(f"{gateway.address}/healthz").status_code == 200
    monkeypatch.setattr(kafka.inboxes[0], "poll", refused)
    eventually(lambda: httpx.get(f"{gateway.address}/healthz").status_code == 503, "it is noticed", 10)
    with pytest.raises(APIStatusError, match="may not use") as failed:
        openai.chat.completions.create(model="auto", messages=HELLO)
    assert failed.value.status_code == 503


def test_calls_are_counted_by_path_and_status(gateway: Gateway, openai: OpenAI) -> None:
    openai.chat.completions.create(model="auto", messages=HELLO)
    httpx.get(f"{gateway.url}/models/gpt-4o")
    httpx.get(f"{gateway.url}/made/up")
    counted = {
        ("/v1/chat/completions", "200"): 1,
        ("/v1/models/{model}", "404"): 1,
        ("none", "404"): 1,
    }
    for (path, status), count in counted.items():
        assert gateway.counted("forebay_gateway_calls_total", path=path, status=status) == count
    assert gateway.counted("forebay_gateway_call_seconds_count", path="/v1/chat/completions") == 1
    assert gateway.counted("forebay_gateway_inflight") == 0


async def test_running_calls_are_finished_before_it_ends(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = silence
    with gateway_on(config) as gateway:
        openai = AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0)
        asking = asyncio.create_task(openai.chat.completions.create(model="auto", messages=HELLO, stream=True))
        await until(lambda: kafka.sent)
        gateway.stop()
        kafka.reply(echo(kafka.sent[0].request)[0])
        text = [chunk.choices[0].delta.content or "" async for chunk in await asking]
        assert "".join(text) == "Hello?"
