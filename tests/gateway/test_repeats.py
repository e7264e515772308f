"""Calls that are sent again under one Idempotency-Key are paid for once, whichever copy they come to."""

import asyncio
from typing import Any

import pytest
from forebay_gateway import repeats
from forebay_schemas.config import Config, changed
from forebay_schemas.errors import ErrorCode
from openai import APIStatusError, APITimeoutError, AsyncOpenAI, OpenAI

from tests.gateway.running import Gateway, gateway_on
from tests.gateway.test_chat import HELLO, answering, failing
from tests.producers.doubles import MemoryKafka, echo, silence
from tests.redis_server import RedisServer
from tests.waiting import eventually, until

SAME = {"Idempotency-Key": "order-17"}


def ask(gateway: Gateway, key: str = "order-17", **given: Any) -> Any:
    client = OpenAI(base_url=gateway.url, api_key="none", max_retries=0)
    given = {"messages": HELLO, "extra_headers": {"Idempotency-Key": key}, **given}
    return client.chat.completions.create(model="auto", **given)


def test_a_repeat_gets_the_first_ones_answer(copies: list[Gateway], kafka: MemoryKafka) -> None:
    first = ask(copies[0])
    assert [ask(copy).id for copy in copies] == [first.id, first.id]
    assert len(kafka.sent) == 1
    ask(copies[0], key="order-18")
    assert len(kafka.sent) == 2


def test_a_caller_who_lost_the_connection_finds_the_answer(copies: list[Gateway], kafka: MemoryKafka) -> None:
    kafka.answer = silence
    with pytest.raises(APITimeoutError):
        ask(copies[0], timeout=0.3)
    eventually(lambda: copies[0].counted("forebay_gateway_left_total", outcome="kept"), "the caller has left", 10)
    kafka.reply(echo(kafka.sent[0].request)[0])
    assert ask(copies[1]).choices[0].message.content == "Hello?"
    assert (len(kafka.sent), kafka.cancelled) == (1, [])


def test_what_goes_on_without_its_caller_takes_a_place_until_it_ends(kafka: MemoryKafka, counted: Config) -> None:
    kafka.answer = silence
    with gateway_on(changed(counted, {"gateway": {"max_inflight": 1}})) as gateway:
        with pytest.raises(APITimeoutError):
            ask(gateway, timeout=0.3)
        eventually(lambda: gateway.counted("forebay_gateway_left_total", outcome="kept"), "the caller has left", 10)
        with pytest.raises(APIStatusError) as refused:
            ask(gateway, key="order-18")
        assert (refused.value.status_code, refused.value.code, len(kafka.sent)) == (503, "overloaded", 1)
        assert gateway.counted("forebay_gateway_refused_total", reason="busy") == 1
        kafka.reply(echo(kafka.sent[0].request)[0])
        kafka.answer = echo
        assert ask(gateway).choices[0].message.content == "Hello?"
        assert ask(gateway, key="order-18", timeout=5), "the key was let go"


async def test_a_repeat_waits_for_the_first_one(copies: list[Gateway], kafka: MemoryKafka) -> None:
    kafka.answer = silence
    clients = [AsyncOpenAI(base_url=copy.url, api_key="none", max_retries=0) for copy in copies]
    asking = [
        asyncio.create_task(client.chat.completions.create(model="auto", messages=HELLO, extra_headers=SAME))
        for client in clients
    ]
    await until(lambda: kafka.sent)
    kafka.reply(echo(kafka.sent[0].request)[0])
    one, other = await asyncio.gather(*asking)
    assert (one.id, len(kafka.sent)) == (other.id, 1)


def test_a_copy_that_died_holds_up_no_repeat(
    copies: list[Gateway], kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_LEASE_S", 0.5)
    monkeypatch.setattr(repeats, "_RENEW_EVERY_S", 60.0)  # the first copy says no more that it lives
    kafka.answer = silence
    with pytest.raises(APITimeoutError):
        ask(copies[0], timeout=0.3)
    kafka.answer = echo
    assert ask(copies[1]).choices[0].message.content == "Hello?"


def test_a_copy_that_lives_keeps_its_call(
    copies: list[Gateway], kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_LEASE_S", 0.5)
    monkeypatch.setattr(repeats, "_RENEW_EVERY_S", 0.1)
    kafka.answer = silence
    for copy in copies:
        with pytest.raises(APITimeoutError):
            ask(copy, timeout=1.5)
    assert len(kafka.sent) == 1


def test_after_an_error_the_repeat_asks_anew(copies: list[Gateway], kafka: MemoryKafka) -> None:
    kafka.answer = failing(ErrorCode.ENGINE_FAILED)
    with pytest.raises(APIStatusError):
        ask(copies[0])
    kafka.answer = answering(text="Now.")
    assert eventually(lambda: ask(copies[1]), "it is answered", 10).choices[0].message.content == "Now."


def test_a_streamed_repeat_comes_in_one_piece(copies: list[Gateway], kafka: MemoryKafka) -> None:
    ask(copies[0])
    chunks = list(ask(copies[1], key="order-19", stream=True))
    assert chunks[1].choices[0].delta.content == "Hello?"
    assert [chunk.id for chunk in list(ask(copies[0], key="order-19", stream=True))] == [chunks[0].id] * 3


def test_one_key_stands_for_one_body(copies: list[Gateway], kafka: MemoryKafka) -> None:
    ask(copies[0])
    with pytest.raises(APIStatusError) as refused:
        ask(copies[0], temperature=1)
    assert (refused.value.status_code, refused.value.param) == (400, "Idempotency-Key")


def test_without_redis_it_is_a_call_like_any_other(
    kafka: MemoryKafka, counted: Config, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    with gateway_on(changed(counted, {"redis": {"timeout_ms": 50}})) as gateway:
        assert ask(gateway).id != ask(gateway).id
        assert gateway.counted("forebay_gateway_uncounted_total", what="idempotency") == 2
