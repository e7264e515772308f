"""Whatever a record holds, it ends as one reply with its result, or as one dead letter."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import CacheStatus, DeadLetter, Lane, Latency, Reply, Result, Usage
from forebay_schemas.topics import DEAD_LETTER_BYTES, Headers
from forebay_workers.answer import Answerer
from forebay_workers.backends import EngineDead, Generation, GenerationError, GenerationRequest
from forebay_workers.lanes import Delivery
from forebay_workers.outcome import Outcome

from ..builders import NOW_MS, make_request, make_route, make_task
from .doubles import CODEC, configured, delivery, task_for

SETTINGS = """
[models.model]
price = { input_per_1k = 0.001, cached_input_per_1k = 0.0, output_per_1k = 0.002 }
[models.big]
price = { input_per_1k = 0.01, output_per_1k = 0.02 }
[tiers.small]
complexity_up_to = 0.5
model = "model"
max_tokens = 100
[tiers.large]
complexity_up_to = 1.0
model = "big"
max_tokens = 100
[kafka]
reply_topics = ["acme.replies"]
"""


class Saying:
    """A backend that says one thing, or raises it, and takes 40 ms for it on the test's clock."""

    model_id = "model"
    synthetic = False
    concurrency = 8

    def __init__(self, says: Generation | Exception) -> None:
        self.says = says
        self.asked: list[GenerationRequest] = []
        self.now_ms = NOW_MS + 100.0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: GenerationRequest) -> Generation:
        self.asked.append(request)
        self.now_ms += 40
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(SETTINGS, tmp_path)


@pytest.fixture
def backend() -> Saying:
    usage = Usage(prompt_tokens=1000, cached_prompt_tokens=400, completion_tokens=10)
    return Saying(Generation(text="Paris.", finish_reason="stop", model_id="llama-3.1-8b", usage=usage))


@pytest.fixture
def answer(config: Config, backend: Saying) -> Callable[[Delivery], Outcome]:
    answerer = Answerer(config, CODEC, now_ms=lambda: backend.now_ms)
    return lambda delivery: asyncio.run(answerer.answer(delivery, backend))


def reply_of(outcome: Outcome) -> Reply:
    return CODEC.decode(outcome.records[0].value, Reply)


def letter_of(outcome: Outcome) -> DeadLetter:
    (record,) = outcome.records
    assert record.topic == "llm.requests.dead"
    return CODEC.decode(record.value, DeadLetter)


def test_an_answer_says_all_about_itself(answer: Callable[[Delivery], Outcome]) -> None:
    request = make_request(user="ada", endpoint="search", lane=Lane.BATCH, prompt_version="v2")
    task = make_task(request, similarity=0.4, embedding_ms=8.0, lookup_ms=2.0, accepted_ms=NOW_MS + 20)
    reply = reply_of(answer(delivery(CODEC.encode(task))))
    assert reply.cost == pytest.approx((600 * 0.001 + 10 * 0.002) / 1000 / 2)
    assert reply.baseline_cost == pytest.approx((1000 * 0.01 + 10 * 0.02) / 1000)
    assert msgspec.structs.replace(reply, cost=0.0, baseline_cost=0.0) == Reply(
        request_id="request-1",
        tenant="acme",
        completed_ms=NOW_MS + 140,
        cache_status=CacheStatus.MISS,
        text="Paris.",
        finish_reason="stop",
        usage=Usage(prompt_tokens=1000, cached_prompt_tokens=400, completion_tokens=10),
        user="ada",
        endpoint="search",
        category="search",
        lane=Lane.BATCH,
        similarity=0.4,
        route=make_route(),
        model_id="model",
        prompt_version="v2",
        hops=1,
        latency=Latency(queue_ms=80.0, embedding_ms=8.0, lookup_ms=2.0, generation_ms=40.0, total_ms=140.0),
    )


def test_the_reply_goes_to_who_asked_and_its_result_to_the_desk(answer: Callable[[Delivery], Outcome]) -> None:
    value = task_for(reply_topic="acme.replies", reply_key="key-9", bucket="5", traceparent="00-ab-cd-01")
    reply, result = answer(delivery(value)).records
    assert (reply.topic, reply.key) == ("acme.replies", "key-9")
    ids = Headers(request_id="request-1", tenant="acme", traceparent="00-ab-cd-01")
    assert reply.headers == ids.to_kafka()
    assert (result.topic, result.key) == ("llm.results", "5")
    assert result.headers == msgspec.structs.replace(ids, bucket="5").to_kafka()
    assert CODEC.decode(result.value, Result) == Result(
        task_id="task-1", flight_key="flight-1", bucket="5", reply=reply.value
    )


def test_clocks_that_disagree_give_no_negative_latency(answer: Callable[[Delivery], Outcome]) -> None:
    ahead = make_request(created_ms=NOW_MS + 10_000)
    latency = reply_of(answer(delivery(task_for(ahead, accepted_ms=NOW_MS + 10_000)))).latency
    assert (latency.queue_ms, latency.total_ms) == (0.0, 0.0)


def test_an_expired_request_costs_no_token(answer: Callable[[Delivery], Outcome], backend: Saying) -> None:
    reply = reply_of(answer(delivery(task_for(make_request(deadline_ms=NOW_MS + 100)))))
    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable) == ("deadline_exceeded", False)
    assert (reply.text, reply.hops, reply.cost, backend.asked) == ("", 0, 0.0, [])


def test_a_request_that_can_still_be_answered_in_time_is(answer: Callable[[Delivery], Outcome]) -> None:
    assert reply_of(answer(delivery(task_for(make_request(deadline_ms=NOW_MS + 101))))).error is None


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (ErrorCode.CONTEXT_LENGTH_EXCEEDED, False),
        (ErrorCode.ENGINE_REFUSED, False),
        (ErrorCode.ENGINE_FAILED, True),
    ],
)
def test_what_the_engine_does_not_answer_is_an_error_reply(
    answer: Callable[[Delivery], Outcome], backend: Saying, code: ErrorCode, retryable: bool
) -> None:
    backend.says = GenerationError(code, "too much for it")
    outcome = answer(delivery(task_for()))
    reply = reply_of(outcome)
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.error.retryable) == (code, "too much for it", retryable)
    assert CODEC.decode(outcome.records[1].value, Result).reply == outcome.records[0].value


def test_a_defect_in_a_library_is_an_error_reply_and_nothing_of_the_prompt_is_logged(
    answer: Callable[[Delivery], Outcome], backend: Saying, caplog: pytest.LogCaptureFixture
) -> None:
    backend.says = KeyError("my secret question")
    with caplog.at_level(logging.DEBUG):
        error = reply_of(answer(delivery(task_for(make_request("my secret question"))))).error
    assert error is not None
    assert error.code == "engine_failed"
    assert "KeyError" in error.message
    assert "secret" not in error.message + caplog.text


def test_a_dead_engine_answers_nobody(answer: Callable[[Delivery], Outcome], backend: Saying) -> None:
    backend.says = EngineDead("gone")
    with pytest.raises(EngineDead):
        answer(delivery(task_for()))


def test_an_answer_too_large_for_a_record_is_an_error(config: Config, backend: Saying) -> None:
    backend.says = Generation(
        text="x" * config.kafka.max_record_bytes, finish_reason="stop", model_id="llama-3.1-8b", usage=Usage()
    )
    answerer = Answerer(config, CODEC, now_ms=lambda: backend.now_ms)
    reply = reply_of(asyncio.run(answerer.answer(delivery(task_for()), backend)))
    assert reply.error is not None
    assert reply.error.code == "too_large"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "not_avro"),
        (b"garbage", "not_avro"),
        (task_for()[:2] + bytes(8) + task_for()[10:], "unknown_schema"),
        (task_for()[:-3], "malformed"),
        (task_for(reply_topic="somebody.elses"), "invalid_request"),
        (CODEC.encode(msgspec.structs.replace(make_task(), request=b"garbage")), "not_avro"),
    ],
    ids=["empty", "not Avro", "unknown schema", "truncated", "reply topic not allowed", "no request inside"],
)
def test_a_record_that_cannot_be_answered_is_a_dead_letter(
    answer: Callable[[Delivery], Outcome], backend: Saying, value: bytes, code: str
) -> None:
    headers = Headers(request_id="request-1", tenant="acme")
    outcome = answer(delivery(value, partition=3, offset=17, headers=headers))
    letter = letter_of(outcome)
    assert (letter.code, letter.place, letter.value, outcome.dead) == (code, "worker", value, code)
    assert (letter.topic, letter.partition, letter.offset) == ("llm.tier.small", 3, 17)
    assert (letter.request_id, letter.tenant, letter.failed_ms) == ("request-1", "acme", NOW_MS + 100)
    assert backend.asked == []


def test_a_huge_dead_letter_is_cut_and_says_so(answer: Callable[[Delivery], Outcome]) -> None:
    value = b"x" * (DEAD_LETTER_BYTES + 1)
    letter = letter_of(answer(delivery(value)))
    assert letter.value == value[:DEAD_LETTER_BYTES]
    assert letter.value_length == len(value)
    assert letter.value_digest == hashlib.sha256(value).hexdigest()


def test_headers_that_cannot_be_read_cost_the_dead_letter_only_its_ids(answer: Callable[[Delivery], Outcome]) -> None:
    bad = delivery(b"garbage")
    bad.headers.append(("forebay-request-id", b"\xff"))
    assert letter_of(answer(bad)).request_id is None
