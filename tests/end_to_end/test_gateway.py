"""OpenAI's client against the gateway of a real stack: from HTTP through Kafka, Flink and vLLM and back."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Reply
from openai import APIStatusError, OpenAI

from ..producers.batch_doubles import a_line
from ..waiting import eventually
from .conftest import RunningStack


@pytest.fixture
def openai(running: RunningStack) -> Iterator[OpenAI]:
    url = f"http://localhost:{running.config.gateway.port}/v1"
    with OpenAI(base_url=url, api_key="none", timeout=120, max_retries=0) as client:
        yield client


def turns(question: str) -> Any:
    return [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": question}]


def in_category(name: str) -> Any:
    return {"forebay": {"category": name}}


def test_an_answer_is_generated_once_and_streamed_from_the_cache(running: RunningStack, openai: OpenAI) -> None:
    asked = turns("How does a gateway pass on a question about tulips?")
    raw = openai.chat.completions.with_raw_response.create(
        model="small", messages=asked, extra_body=in_category("support")
    )
    first = raw.parse()
    assert (raw.headers["x-forebay-cache"], raw.headers["x-forebay-tier"]) == ("miss", "small")
    assert first.usage is not None
    assert first.usage.completion_tokens > 0
    assert float(raw.headers["x-forebay-cost"]) > 0
    assert running.total("gateway", "forebay_gateway_calls_total", path="/v1/chat/completions", status="200") >= 1

    def again() -> Any:
        chunks = list(
            openai.chat.completions.create(
                model="small",
                messages=asked,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=in_category("support"),
            )
        )
        told: Any = chunks[-1].usage and chunks[-1].usage.model_extra
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        return text, told["forebay"]["cache_status"], told["forebay"]["matched_request_id"]

    if first.choices[0].finish_reason == "stop":  # what is cut off is not kept
        eventually(lambda: again() == (first.choices[0].message.content, "exact", first.id), "it comes from the cache")


def test_pieces_come_while_the_model_writes(openai: OpenAI) -> None:
    def pieces(number: int) -> int:
        told = turns(f"Tell a long story of barge number {number}.")
        stream = openai.chat.completions.create(model="large", messages=told, stream=True)
        return sum(bool(chunk.choices[0].delta.content) for chunk in stream)

    assert any(pieces(number) > 3 for number in range(10)), "to some a model of random weights says nothing"


def test_leaving_a_stream_early_stops_the_model(running: RunningStack, openai: OpenAI) -> None:
    def left(number: int) -> Reply:
        with openai.chat.completions.create(
            model="large",
            messages=turns(f"Tell story {number} that nobody waits for."),
            stream=True,
            temperature=1.0,
            extra_body={"forebay": {"cache": {"policy": "bypass"}}},
        ) as stream:
            request_id = next(iter(stream)).id
        return eventually(
            lambda: next((reply for reply in running.replies() if reply.request_id == request_id), None), "it has ended"
        )

    replies = map(left, range(40))  # some are so short that they end before it is heard that nobody waits
    stopped = next(reply for reply in replies if reply.error is not None)
    assert stopped.error is not None
    assert stopped.error.code == ErrorCode.CANCELLED
    assert stopped.usage.completion_tokens < running.config.tiers["large"].max_tokens


def test_a_json_schema_is_kept(openai: OpenAI) -> None:
    schema = {"type": "string", "enum": ["yes", "no"]}  # random weights would fill an object with spaces for ever
    form: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    done = openai.chat.completions.create(model="small", messages=turns("Is it well?"), response_format=form)
    assert json.loads(done.choices[0].message.content or "") in ("yes", "no")


def test_a_batch_is_answered(openai: OpenAI) -> None:
    lines = [a_line(f"row-{number}", f"What is stored in warehouse {number}?", max_tokens=8) for number in range(5)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = openai.files.create(file=("rows.jsonl", data), purpose="batch")
    batch = openai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    done = eventually(
        lambda: (now := openai.batches.retrieve(batch.id)).status == "completed" and now, "the batch is done", 180, 1
    )
    written = [openai.files.content(file_id).text for file_id in (done.output_file_id, done.error_file_id) if file_id]
    names = [json.loads(line)["custom_id"] for line in "".join(written).splitlines()]
    assert sorted(names) == [line["custom_id"] for line in lines]  # to some a model of random weights says nothing


def test_a_prompt_that_does_not_fit_is_the_callers_fault(openai: OpenAI) -> None:
    with pytest.raises(APIStatusError) as refused:
        openai.chat.completions.create(model="large", messages=turns("word " * 4_000))
    assert (refused.value.status_code, refused.value.code) == (400, "context_length_exceeded")


def test_the_page_shows_what_was_asked(running: RunningStack, openai: OpenAI) -> None:
    address = f"http://localhost:{running.config.gateway.port}"
    assert httpx.get(f"{address}/readyz").status_code == 200
    assert "Forebay" in httpx.get(address).text
    httpx.get(f"{address}/forebay/live")  # from the first look on

    def seen() -> bool:
        openai.chat.completions.create(model="small", messages=turns("Who looks at the page?"))
        return httpx.get(f"{address}/forebay/live").json()["answers"] > 0

    eventually(seen, "it is among the figures")
