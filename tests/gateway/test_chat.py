"""Chat completions with OpenAI's own clients, against a gateway that asks a pipeline in memory."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from forebay_client.openai_format import fields_of_chat
from forebay_gateway.chat_request import UNSUPPORTED, ChatRequest
from forebay_schemas.config import Config, changed
from forebay_schemas.errors import ErrorCode, InvalidRequest
from forebay_schemas.records import (
    CachePolicy,
    CacheScope,
    CacheStatus,
    Chunk,
    Hop,
    Lane,
    Reply,
    ReplyError,
    Request,
    Usage,
)
from openai import APIError, APIStatusError, APITimeoutError, AsyncOpenAI, BadRequestError, InternalServerError, OpenAI

from tests.builders import make_reply
from tests.gateway.running import Gateway, gateway_on
from tests.producers.doubles import MemoryKafka, silence
from tests.waiting import eventually, until

HELLO: Any = [{"role": "user", "content": "Hello?"}]


def answering(**fields: Any) -> Callable[[Request], list[Reply]]:
    """A pipeline whose reply to every request has these fields."""
    return lambda request: [make_reply(request_id=request.request_id, tenant=request.tenant, **fields)]


def failing(code: ErrorCode) -> Callable[[Request], list[Reply]]:
    """A pipeline that answers every request with an error."""
    return answering(text="", error=ReplyError(code=code, message="no luck", retryable=code.retryable))


def asked(kafka: MemoryKafka) -> Request:
    """The one request that was published."""
    [sent] = kafka.sent
    return sent.request


def test_an_answer_tells_in_headers_and_usage_where_it_came_from(openai: OpenAI, kafka: MemoryKafka) -> None:
    kafka.answer = answering(
        cache_status=CacheStatus.SEMANTIC,
        tier="small",
        cost=0.0,
        baseline_cost=0.25,
        similarity=0.97,
        usage=Usage(prompt_tokens=12, completion_tokens=8, cached_prompt_tokens=4),
    )
    raw = openai.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
    done = raw.parse()
    assert done.choices[0].message.content == "Print the label from your account."
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (12, 8, 20)
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 4
    told: Any = done.usage.model_extra
    assert told["forebay"]["cache_status"] == "semantic"
    assert told["forebay"]["similarity"] == 0.97
    assert told["forebay"]["baseline_cost"] == 0.25
    assert raw.headers["x-forebay-cache"] == "semantic"
    assert raw.headers["x-forebay-tier"] == "small"
    assert raw.headers["x-forebay-model"] == "llama-3.1-8b"
    assert float(raw.headers["x-forebay-cost"]) == 0.0
    assert raw.headers["x-request-id"] == done.id == asked(kafka).request_id


def test_every_field_reaches_the_pipeline(openai: OpenAI, kafka: MemoryKafka) -> None:
    turns: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},  # as OpenAI gives it
        *HELLO,
    ]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    openai.chat.completions.create(
        model="auto",
        messages=turns,
        max_completion_tokens=50,
        temperature=0.5,
        top_p=0.9,
        stop=["END"],
        seed=7,
        user="ada",
        metadata={"ticket": "17"},
        response_format=form,
        n=1,
        frequency_penalty=0,
        extra_body={
            "forebay": {
                "cache": {"policy": "refresh", "scope": "user", "ttl_s": 60, "sources": ["prices"]},
                "lane": "batch",
                "deadline_s": 15,
                "min_tier": "small",
                "max_tier": "medium",
                "category": "support",
                "endpoint": "help-page",
                "prompt_version": "v2",
                "priority": 3,
                "passages": ["Paris is in France."],
            }
        },
    )
    request = asked(kafka)
    assert [turn.content for turn in request.messages] == ["Be brief.", "Hi", "Hello.", "Hello?"]
    assert request.messages[1].name == "ada"
    assert (request.max_tokens, request.temperature, request.top_p, request.seed) == (50, 0.5, 0.9, 7)
    assert (request.stop, request.user, request.metadata) == (["END"], "ada", {"ticket": "17"})
    assert json.loads(request.response_format or "") == form
    assert (request.cache.policy, request.cache.scope) == (CachePolicy.REFRESH, CacheScope.USER)
    assert (request.cache.ttl_s, request.cache.sources) == (60, ["prices"])
    assert (request.lane, request.priority) == (Lane.BATCH, 3)
    assert (request.min_tier, request.max_tier) == ("small", "medium")
    assert (request.category, request.endpoint, request.prompt_version) == ("support", "help-page", "v2")
    assert request.passages == ["Paris is in France."]
    assert request.tenant == "default"
    assert request.deadline_ms is not None
    assert request.deadline_ms - request.created_ms == 15_000


@pytest.mark.parametrize(
    ("model", "tiers"),
    [("auto", (None, None)), ("medium", ("medium", "medium")), ("llama-3.1-405b", ("large", "large"))],
)
def test_a_model_is_a_tier_or_left_to_the_router(
    openai: OpenAI, kafka: MemoryKafka, model: str, tiers: tuple[str | None, str | None]
) -> None:
    openai.chat.completions.create(model=model, messages=HELLO)
    assert (asked(kafka).min_tier, asked(kafka).max_tier) == tiers


def test_names_that_services_use_already_are_aliases(kafka: MemoryKafka, config: Config) -> None:
    aliases = {"gpt-4o": "large", "*": "auto"}
    with gateway_on(changed(config, {"gateway": {"aliases": aliases}})) as gateway:
        client = OpenAI(base_url=gateway.url, api_key="none", max_retries=0)
        assert client.chat.completions.create(model="gpt-4o", messages=HELLO).model == "gpt-4o"
        assert asked(kafka).min_tier == "large"
        client.chat.completions.create(model="gpt-5-nano", messages=HELLO)
        assert kafka.sent[1].request.min_tier is None
        assert {"auto", "small", "llama-3.1-8b", "gpt-4o"} <= {model.id for model in client.models.list()}


def test_models_can_be_listed_and_looked_up(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()][:2] == ["auto", "small"]
    assert openai.models.retrieve("large").owned_by == "forebay"
    with pytest.raises(APIStatusError) as failed:
        openai.models.retrieve("gpt-4o")
    assert (failed.value.status_code, failed.value.code) == (404, "model_not_found")


def test_a_stream_is_the_text_and_then_its_usage(openai: OpenAI, kafka: MemoryKafka) -> None:
    def in_pieces(request: Request) -> list[Reply]:
        for index, text in enumerate(("Hel", "lo.")):
            piece = Chunk(request_id=request.request_id, tenant=request.tenant, attempt=0, index=index, text=text)
            kafka.chunk(piece)
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text="Hello.", tier="small")]

    kafka.answer = in_pieces
    stream = openai.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert asked(kafka).stream
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert {chunk.id for chunk in chunks} == {asked(kafka).request_id}
    *others, last = chunks
    assert last.usage is not None
    told: Any = last.usage.model_extra
    assert told["forebay"]["tier"] == "small"
    assert all(chunk.usage is None for chunk in others)


CALLS: Any = [{"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def test_tools_pass_through_and_their_calls_come_back(openai: OpenAI, kafka: MemoryKafka) -> None:
    kafka.answer = answering(text="Let me see.", tool_calls=json.dumps(CALLS), finish_reason="tool_calls")
    done = openai.chat.completions.create(model="auto", messages=HELLO, tools=[WEATHER], tool_choice="auto")
    assert json.loads(asked(kafka).tools or "") == [WEATHER]
    [choice] = done.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert [call.model_dump() for call in choice.message.tool_calls or ()] == CALLS

    results = [choice.message.model_dump(exclude_none=True), {"role": "tool", "content": "5", "tool_call_id": "call-1"}]
    with openai.chat.completions.stream(model="auto", messages=[*HELLO, *results], tools=[WEATHER]) as stream:
        whole = stream.get_final_completion()
    turns = kafka.sent[1].request.messages
    assert json.loads(turns[1].tool_calls or "") == CALLS
    assert (turns[2].role, turns[2].tool_call_id) == ("tool", "call-1")
    [call] = whole.choices[0].message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call-1", "weather", '{"city": "Oslo"}')

    openai.chat.completions.create(model="auto", messages=HELLO, tools=[WEATHER], tool_choice="none")
    assert kafka.sent[2].request.tools is None


@pytest.mark.parametrize(
    ("choice", "told"),
    [("required", ["time", "weather"]), ({"type": "function", "function": {"name": "weather"}}, ["weather"])],
    ids=["any", "by its name"],
)
def test_a_call_can_be_required(openai: OpenAI, kafka: MemoryKafka, choice: Any, told: list[str]) -> None:
    tools: Any = [{"type": "function", "function": {"name": "time"}}, WEATHER]
    openai.chat.completions.create(model="auto", messages=HELLO, tools=tools, tool_choice=choice)
    request = asked(kafka)
    assert request.tool_choice == "required"
    assert [tool["function"]["name"] for tool in json.loads(request.tools or "")] == told


def test_a_stream_that_begins_anew_ends_in_an_error_and_its_request_goes_on(
    openai: OpenAI, kafka: MemoryKafka, gateway: Gateway
) -> None:
    def twice(request: Request) -> list[Reply]:
        for attempt, text in enumerate(("I cannot", "Of course")):
            kafka.chunk(
                Chunk(request_id=request.request_id, tenant=request.tenant, attempt=attempt, index=0, text=text)
            )
        return []

    kafka.answer = twice
    stream = openai.chat.completions.create(model="auto", messages=HELLO, stream=True)
    with pytest.raises(APIError) as failed:
        list(stream)
    assert failed.value.code == "stream_restarted"
    assert gateway.counted("forebay_gateway_restarted_total") == 1
    assert kafka.cancelled == []


def test_where_streams_are_held_none_begins_anew(kafka: MemoryKafka, config: Config) -> None:
    kafka.answer = answering(text="Of course.", path=[Hop(tier="small", model_id="m", reason="confidence")], hops=2)
    with gateway_on(changed(config, {"gateway": {"hold_streams": True}})) as gateway:
        openai = OpenAI(base_url=gateway.url, api_key="none", max_retries=0)
        chunks = list(openai.chat.completions.create(model="auto", messages=HELLO, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Of course.", None]
    assert not asked(kafka).stream


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.CONTEXT_LENGTH_EXCEEDED, 400),
        (ErrorCode.CANCELLED, 409),
        (ErrorCode.ENGINE_FAILED, 503),
        (ErrorCode.DEADLINE_EXCEEDED, 504),
        (ErrorCode.GIVEN_UP, 500),
    ],
)
def test_errors_of_the_pipeline_have_openais_shape(
    openai: OpenAI, kafka: MemoryKafka, code: ErrorCode, status: int
) -> None:
    kafka.answer = failing(code)
    for streamed in (False, True):  # nothing was streamed yet: there is a status to tell it by
        with pytest.raises(APIStatusError) as failed:
            openai.chat.completions.create(model="auto", messages=HELLO, stream=streamed)
        assert (failed.value.status_code, failed.value.code) == (status, code)
        assert failed.value.body == {"message": "no luck", "type": failed.value.type, "param": None, "code": code}
        assert failed.value.response.headers["x-forebay-request-id"] == kafka.sent[-1].request.request_id


def test_the_client_asks_again_only_where_that_may_help(gateway: Gateway, kafka: MemoryKafka) -> None:
    client = OpenAI(base_url=gateway.url, api_key="none", max_retries=2)
    kafka.answer = failing(ErrorCode.GIVEN_UP)
    with pytest.raises(InternalServerError):
        client.chat.completions.create(model="auto", messages=HELLO)
    assert len(kafka.sent) == 1

    answers = [failing(ErrorCode.ENGINE_FAILED), answering()]
    kafka.answer = lambda request: answers.pop(0)(request)
    assert client.chat.completions.create(model="auto", messages=HELLO).choices[0].message.content
    assert len(kafka.sent) == 3


def test_nobody_answers_in_time(openai: OpenAI, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    with pytest.raises(APIStatusError) as failed:
        openai.chat.completions.create(model="auto", messages=HELLO, extra_body={"forebay": {"deadline_s": 0.2}})
    assert (failed.value.status_code, failed.value.code) == (504, ErrorCode.DEADLINE_EXCEEDED)


def test_brokers_that_take_nothing_are_no_fault_of_the_caller(openai: OpenAI, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    with pytest.raises(APIStatusError) as failed:
        openai.chat.completions.create(model="auto", messages=HELLO)
    assert failed.value.status_code == 503
    assert failed.value.response.headers["retry-after"] == "1"


def test_a_client_that_gives_up_has_its_request_taken_back(
    gateway: Gateway, openai: OpenAI, kafka: MemoryKafka
) -> None:
    kafka.answer = silence
    with pytest.raises(APITimeoutError):
        openai.chat.completions.create(model="auto", messages=HELLO, timeout=0.3)
    eventually(lambda: kafka.cancelled, "the request is taken back", 10)
    assert kafka.cancelled == [("default", asked(kafka).request_id)]
    assert gateway.counted("forebay_gateway_left_total", outcome="cancelled") == 1


async def test_leaving_a_stream_early_cancels_the_generation(gateway: Gateway, kafka: MemoryKafka) -> None:
    kafka.answer = silence
    async with AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
        asking = asyncio.create_task(client.chat.completions.create(model="auto", messages=HELLO, stream=True))
        await until(lambda: kafka.sent)
        request = asked(kafka)
        kafka.chunk(Chunk(request_id=request.request_id, tenant=request.tenant, attempt=0, index=0, text="One"))
        async with await asking as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        await until(lambda: kafka.cancelled)
    assert kafka.cancelled == [("default", request.request_id)]


def test_a_trace_goes_on_and_what_is_no_trace_is_passed_over(openai: OpenAI, kafka: MemoryKafka) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header in (trace, "from my proxy"):
        openai.chat.completions.create(model="auto", messages=HELLO, extra_headers={"traceparent": header})
    assert [sent.headers.traceparent for sent in kafka.sent] == [trace, None]


async def test_many_calls_at_once_get_their_own_answers(gateway: Gateway) -> None:
    async with AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:

        async def ask(question: str) -> str | None:
            turns: Any = [{"role": "user", "content": question}]
            return (await client.chat.completions.create(model="auto", messages=turns)).choices[0].message.content

        questions = [f"question {number}" for number in range(50)]
        assert await asyncio.gather(*map(ask, questions)) == questions


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "time"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"stop": [""]}, "stop[0]"),
        ({"made_up": 1}, "made_up"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "messages[0].content[0].type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"forebay": {"lane": "slow"}}, "forebay.lane"),
        ({"forebay": {"min_tier": "tiny"}}, "forebay.min_tier"),
        ({"forebay": {"cache": {"scope": "user"}}}, "user"),
        ({"model": "small", "forebay": {"max_tier": "large"}}, "forebay.max_tier"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_400_that_names_the_field(
    openai: OpenAI, kafka: MemoryKafka, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as failed:
        openai.post("/chat/completions", cast_to=object, body={"model": "auto", "messages": HELLO, **body})
    assert failed.value.param == param
    assert (failed.value.type, kafka.sent) == ("invalid_request_error", [])
    assert str(failed.value.param) in failed.value.message


def test_a_line_of_a_batch_takes_what_the_gateway_takes(config: Config) -> None:
    neutral = {
        "n": 1, "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {},
        "modalities": ["text"], "parallel_tool_calls": True, "service_tier": "auto", "store": False, "audio": None,
        "prompt_cache_key": "k", "tool_choice": "auto",
    }  # fmt: skip
    answer = {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": [], "audio": None}
    body = {"model": "auto", "messages": [*HELLO, answer, *HELLO]}
    assert ChatRequest.model_validate(body | neutral)
    assert "annotations" not in fields_of_chat(body, config)["messages"][1]
    assert fields_of_chat(body | neutral, config) == fields_of_chat(body, config)
    for name in UNSUPPORTED:
        with pytest.raises(InvalidRequest, match=f"^{name}: "):
            fields_of_chat(body | {name: "something"}, config)


@pytest.mark.parametrize(
    ("contradicting", "field"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"forebay": {"max_tier": "large"}, "model": "small"}, r"forebay\.max_tier"),
        ({"model": "small", "forebay": {"min_tier": "small"}}, r"forebay\.min_tier"),
    ],
    ids=str,
)
def test_a_line_of_a_batch_contradicts_itself_no_more_than_a_call(
    config: Config, contradicting: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: .*leave"):
        fields_of_chat({"messages": HELLO, **contradicting}, config)
