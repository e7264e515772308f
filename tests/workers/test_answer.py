"""Whatever a record holds, it ends as one reply with its result, as one dead letter, or with another attempt."""

import asyncio
import hashlib
import json
import logging
import math
from pathlib import Path

import msgspec
import pytest
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import CacheStatus, DeadLetter, Lane, Latency, Reply, Result
from forebay_schemas.topics import DEAD_LETTER_BYTES, Headers
from forebay_workers.answer import Retry
from forebay_workers.backends import EngineDead, GenerationError
from forebay_workers.outcome import ERROR_CHARS, Outcome

from ..builders import NOW_MS, make_request, make_route, make_task
from .doubles import CODEC, delivery, task_for
from .saying import SMALL_COST, USAGE, Answering, reply_of, saying

HOUR_S = 3600.0


@pytest.fixture
def run(tmp_path: Path) -> Answering:
    return Answering(tmp_path)


def letter_of(outcome: Outcome) -> DeadLetter:
    (record,) = outcome.records
    assert record.topic == "llm.requests.dead"
    return CODEC.decode(record.value, DeadLetter)


def test_an_answer_says_all_about_itself(run: Answering) -> None:
    run.pool.says = [saying(confidence=0.8, first_token_ms=12.0)]
    request = make_request(user="ada", endpoint="search", lane=Lane.BATCH, prompt_version="v2")
    task = make_task(request, similarity=0.4, embedding_ms=8.0, lookup_ms=2.0, accepted_ms=NOW_MS + 20)
    reply = run.reply(delivery(CODEC.encode(task)))
    assert reply.cost == pytest.approx(SMALL_COST / 2)
    assert reply.baseline_cost == pytest.approx((1000 * 0.01 + 10 * 0.02) / 1000)
    assert msgspec.structs.replace(reply, cost=0.0, baseline_cost=0.0) == Reply(
        request_id="request-1",
        tenant="acme",
        completed_ms=NOW_MS + 140,
        cache_status=CacheStatus.MISS,
        text="Paris.",
        finish_reason="stop",
        usage=USAGE,
        user="ada",
        endpoint="search",
        category="search",
        lane=Lane.BATCH,
        similarity=0.4,
        route=make_route(),
        model_id="model",
        prompt_version="v2",
        hops=1,
        latency=Latency(
            queue_ms=90.0, embedding_ms=8.0, lookup_ms=2.0, generation_ms=40.0, total_ms=140.0, first_token_ms=12.0
        ),
        tier="small",
        confidence=0.8,
    )


def test_the_reply_goes_to_who_asked_and_its_result_to_the_desk(run: Answering) -> None:
    value = task_for(reply_topic="acme.replies", reply_key="key-9", bucket="5", traceparent="00-ab-cd-01")
    reply, result = run.outcome(delivery(value)).records
    assert (reply.topic, reply.key) == ("acme.replies", "key-9")
    ids = Headers(request_id="request-1", tenant="acme", traceparent="00-ab-cd-01")
    assert reply.headers == ids.to_kafka()
    assert (result.topic, result.key) == ("llm.results", "5")
    assert result.headers == msgspec.structs.replace(ids, bucket="5").to_kafka()
    assert CODEC.decode(result.value, Result) == Result(
        task_id="task-1", flight_key="flight-1", bucket="5", reply=reply.value
    )


def test_a_standby_is_named_and_paid_at_its_own_price(run: Answering) -> None:
    run.pool.says = [saying(model_id="standby", synthetic=True)]
    outcome = run.outcome(delivery(task_for()))
    reply = reply_of(outcome)
    assert outcome.standby
    assert (reply.model_id, reply.synthetic, reply.tier) == ("standby", True, "small")
    assert reply.cost == pytest.approx((1000 * 0.1 + 10 * 0.2) / 1000)


PRICED = """
[tiers.tiny]
complexity_up_to = 0.1
model = "model"
priced_as = "big"
max_tokens = 100
"""


def test_what_a_tier_is_priced_as_holds_for_its_own_model_only(tmp_path: Path) -> None:
    run = Answering(tmp_path, PRICED)
    assert run.reply(delivery(task_for(), tier="tiny")).cost == pytest.approx((1000 * 0.01 + 10 * 0.02) / 1000)
    run.pool.says = [saying(model_id="standby")]
    assert run.reply(delivery(task_for(), tier="tiny")).cost == pytest.approx((1000 * 0.1 + 10 * 0.2) / 1000)


def test_each_attempt_on_each_tier_has_an_id_of_its_own(run: Answering) -> None:
    run.answer(delivery(task_for()), attempt=1)
    run.answer(delivery(task_for()), attempt=2)
    run.answer(delivery(task_for(hop=1)), attempt=1)
    assert [asked.generation_id for asked in run.pool.asked] == ["task-1/0/1", "task-1/0/2", "task-1/1/1"]


def test_clocks_that_disagree_give_no_negative_latency(run: Answering) -> None:
    ahead = make_request(created_ms=NOW_MS + 10_000)
    latency = run.reply(delivery(task_for(ahead, accepted_ms=NOW_MS + 10_000))).latency
    assert (latency.queue_ms, latency.total_ms) == (0.0, 0.0)


def test_an_expired_request_costs_no_token(run: Answering) -> None:
    reply = run.reply(delivery(task_for(make_request(deadline_ms=NOW_MS + 100))))
    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable) == ("deadline_exceeded", False)
    assert (reply.text, reply.hops, reply.cost, run.pool.asked) == ("", 0, 0.0, [])


@pytest.mark.parametrize("unread", ["x", "{}", "[]", "null", "[" * 100_000])
def test_a_response_format_that_nobody_checked_is_an_error_of_the_request(run: Answering, unread: str) -> None:
    reply = run.reply(delivery(task_for(make_request(response_format=unread))))
    assert reply.error is not None
    assert (reply.error.code, run.pool.asked) == ("invalid_request", [])
    assert "response_format" in reply.error.message


def test_a_request_that_can_still_be_answered_in_time_is(run: Answering) -> None:
    assert run.reply(delivery(task_for(make_request(deadline_ms=NOW_MS + 101)))).error is None


def test_a_generation_ends_at_the_deadline(run: Answering) -> None:
    run.pool.says = [math.inf]
    reply = run.reply(delivery(task_for(make_request(deadline_ms=NOW_MS + 101))))
    assert reply.error is not None
    assert (reply.error.code, reply.hops, len(run.pool.asked)) == ("deadline_exceeded", 0, 1)


async def test_a_backend_is_told_when_its_time_is_over(run: Answering) -> None:
    now_s = asyncio.get_running_loop().time()
    for time_s in (60.0, None):
        deadline_ms = None if time_s is None else round(run.pool.now_ms + time_s * 1000)
        await run.answerer.answer(delivery(task_for(make_request(deadline_ms=deadline_ms))), run.pool)
    limited, unlimited = run.pool.asked
    assert limited.until_s == pytest.approx(now_s + 60.0, abs=1.0)
    assert unlimited.until_s is None


def test_a_time_out_of_the_backends_own_is_no_deadline(run: Answering) -> None:
    run.pool.says = [TimeoutError()]
    outcome = run.answer(delivery(task_for(make_request(deadline_ms=NOW_MS + 60_000))))
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize(("age_s", "answered"), [(23 * HOUR_S, True), (24 * HOUR_S, False)])
def test_a_batch_task_is_answered_within_its_window_if_at_all(run: Answering, age_s: float, answered: bool) -> None:
    value = task_for(make_request(created_ms=NOW_MS - round(age_s * 1000)))
    assert (run.reply(delivery(value, lane=Lane.BATCH)).error is None) == answered
    assert len(run.pool.asked) == answered


def test_an_interactive_task_has_no_window(run: Answering) -> None:
    assert run.reply(delivery(task_for(make_request(created_ms=0)))).error is None


def test_the_answer_is_told_piece_by_piece(run: Answering) -> None:
    run.pool.says = [saying("The capital is Paris.")]
    pieces: list[str] = []
    run.answer(delivery(task_for()), on_text=pieces.append)
    assert pieces == ["The", "capital", "is", "Paris."]


def test_json_is_told_once_it_is_known_to_be_valid(run: Answering) -> None:
    run.pool.says = [saying('{"city": '), saying('{"city": "Paris"}')]
    pieces: list[str] = []
    request = make_request(response_format=json.dumps({"type": "json_object"}))
    run.answer(delivery(task_for(request)), on_text=pieces.append)
    assert pieces == ['{"city": "Paris"}']


@pytest.mark.parametrize("code", [ErrorCode.CONTEXT_LENGTH_EXCEEDED, ErrorCode.ENGINE_REFUSED])
def test_what_the_engine_refuses_is_an_error_reply(run: Answering, code: ErrorCode) -> None:
    run.pool.says = [GenerationError(code, "too much for it")]
    outcome = run.outcome(delivery(task_for()))
    reply = reply_of(outcome)
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.error.retryable) == (code, "too much for it", False)
    assert (reply.model_id, reply.tier) == ("model", "small")
    assert CODEC.decode(outcome.records[1].value, Result).reply == outcome.records[0].value


def test_an_engine_that_failed_may_be_asked_again(run: Answering) -> None:
    run.pool.says = [GenerationError(ErrorCode.ENGINE_FAILED, "out of memory")]
    assert run.answer(delivery(task_for())) == Retry("engine_failed: out of memory")


def test_what_libraries_say_is_told_in_bounded_length(run: Answering) -> None:
    for code in (ErrorCode.ENGINE_REFUSED, ErrorCode.ENGINE_FAILED):
        run.pool.says = [GenerationError(code, "x" * 10_000)]
        outcome = run.answer(delivery(task_for()))
        error = reply_of(outcome).error if isinstance(outcome, Outcome) else None
        said = outcome.reason if isinstance(outcome, Retry) else error.message if error else ""
        assert 0 < len(said) < ERROR_CHARS + 50


def test_a_defect_in_a_library_ends_the_attempt_and_nothing_of_the_prompt_is_logged(
    run: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    run.pool.says = [KeyError("my secret question")]
    with caplog.at_level(logging.DEBUG):
        outcome = run.answer(delivery(task_for(make_request("my secret question"))))
    assert isinstance(outcome, Retry)
    assert "KeyError" in outcome.reason
    assert "secret" not in outcome.reason + caplog.text


def test_a_dead_engine_answers_nobody(run: Answering) -> None:
    run.pool.says = [EngineDead("gone")]
    with pytest.raises(EngineDead):
        run.answer(delivery(task_for()))


async def test_whoever_cancels_an_answer_stops_its_generation(run: Answering) -> None:
    run.pool.says = [math.inf]
    answering = asyncio.create_task(run.answerer.answer(delivery(task_for()), run.pool))
    while not run.pool.asked:
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering


def test_an_answer_too_large_for_a_record_is_an_error_that_is_paid_for(run: Answering) -> None:
    run.pool.says = [saying("x" * run.config.kafka.max_record_bytes)]
    reply = run.reply(delivery(task_for()))
    assert reply.error is not None
    assert (reply.error.code, reply.text, reply.hops) == ("too_large", "", 1)
    assert reply.cost == pytest.approx(SMALL_COST)


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
def test_a_record_that_cannot_be_answered_is_a_dead_letter(run: Answering, value: bytes, code: str) -> None:
    headers = Headers(request_id="request-1", tenant="acme")
    record = delivery(value, partition=3, offset=17, headers=headers)
    for outcome in (
        run.outcome(record),
        run.answerer.cancelled(record),
        run.give_up(record),
    ):
        letter = letter_of(outcome)
        assert (letter.code, letter.place, letter.value, outcome.dead) == (code, "worker", value, code)
        assert (letter.topic, letter.partition, letter.offset) == ("llm.tier.small", 3, 17)
        assert (letter.request_id, letter.tenant, letter.failed_ms) == ("request-1", "acme", NOW_MS + 100)
    assert run.pool.asked == []


def test_a_huge_dead_letter_is_cut_and_says_so(run: Answering) -> None:
    value = b"x" * (DEAD_LETTER_BYTES + 1)
    letter = letter_of(run.outcome(delivery(value)))
    assert letter.value == value[:DEAD_LETTER_BYTES]
    assert letter.value_length == len(value)
    assert letter.value_digest == hashlib.sha256(value).hexdigest()


def test_headers_that_cannot_be_read_cost_the_dead_letter_only_its_ids(run: Answering) -> None:
    bad = delivery(b"garbage")
    bad.headers.append(("forebay-request-id", b"\xff"))
    assert letter_of(run.outcome(bad)).request_id is None
