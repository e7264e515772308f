"""Replies that the job writes: attributed in full, addressed to who asked, and counted."""

import msgspec
import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.messages import Asker
from forebay_jobs.replies import ReplyWriter
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.prices import baseline_cost
from forebay_schemas.records import CacheStatus, Chunk, Lane, Latency, Reply, ReplyError, Usage
from forebay_schemas.topics import REQUEST_ID, TENANT, TRACEPARENT
from prometheus_client import CollectorRegistry

from tests.builders import NOW_MS, make_reply, make_route
from tests.jobs.doubles import CODEC, configured, metrics, reply_of
from tests.samples import total

CONFIG = configured(kafka={"reply_topics": ["shop.replies"]})
ASKER = Asker(
    request_id="second",
    tenant="acme",
    category="shop",
    lane=Lane.BATCH,
    created_ms=NOW_MS,
    accepted_ms=NOW_MS + 4,
    reply_topic="shop.replies",
    reply_key="key-7",
    user="ada",
    endpoint="checkout",
    prompt_version="v7",
    traceparent="00-trace",
)
USAGE = Usage(prompt_tokens=1_000, completion_tokens=500, cached_prompt_tokens=400)
ANSWER = Answer.of(make_reply(request_id="first", usage=USAGE, synthetic=True, cost=0.5), {"tenant:acme": "1"}, None)


@pytest.fixture
def writer() -> ReplyWriter:
    return ReplyWriter(CONFIG, CODEC, metrics())


def test_calls_of_tools_are_given_again(writer: ReplyWriter) -> None:
    calls = '[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]'
    called = Answer.of(make_reply(text="", finish_reason="tool_calls", tool_calls=calls), {}, None)
    (sent,) = writer.again(ASKER, called, CacheStatus.JOINED, NOW_MS)
    assert (reply_of(sent).finish_reason, reply_of(sent).tool_calls) == ("tool_calls", calls)


def test_an_answer_given_again_says_whose_it_is_and_costs_nothing(writer: ReplyWriter) -> None:
    (sent,) = writer.again(
        ASKER, ANSWER, CacheStatus.SEMANTIC, NOW_MS + 30, similarity=0.97, embedding_ms=8.0, lookup_ms=2.0
    )
    assert reply_of(sent) == Reply(
        request_id="second",
        tenant="acme",
        completed_ms=NOW_MS + 30,
        cache_status=CacheStatus.SEMANTIC,
        text="Print the label from your account.",
        finish_reason="stop",
        usage=USAGE,
        user="ada",
        endpoint="checkout",
        category="shop",
        lane=Lane.BATCH,
        similarity=0.97,
        matched_request_id="first",
        route=make_route(),
        model_id="llama-3.1-8b",
        synthetic=True,
        prompt_version="v7",
        hops=0,
        latency=Latency(queue_ms=20.0, embedding_ms=8.0, lookup_ms=2.0, total_ms=30.0),
        cost=0.0,
        baseline_cost=baseline_cost(USAGE, CONFIG),
        tier="small",
    )
    assert baseline_cost(USAGE, CONFIG) == pytest.approx(1.5 * 0.0035)


def test_an_answer_of_an_escalation_says_which_tier_gave_it_and_how_good_it_is(writer: ReplyWriter) -> None:
    escalated = make_reply(request_id="first", tier="large", confidence=0.3, review=True)
    (sent,) = writer.again(ASKER, Answer.of(escalated, {}, None), CacheStatus.EXACT, NOW_MS)
    reply = reply_of(sent)
    assert (reply.route, reply.tier, reply.confidence, reply.review) == (make_route(), "large", 0.3, True)


def test_another_tenants_request_is_not_named(writer: ReplyWriter) -> None:
    shared = Answer.of(make_reply(request_id="first", tenant="rival"), {"shared": "1"}, None)
    (sent,) = writer.again(ASKER, shared, CacheStatus.EXACT, NOW_MS)
    assert reply_of(sent).matched_request_id is None


def test_who_wants_pieces_gets_a_reused_answer_as_one_before_the_reply(writer: ReplyWriter) -> None:
    asker = msgspec.structs.replace(ASKER, stream=True)
    piece, sent = writer.again(asker, ANSWER, CacheStatus.EXACT, NOW_MS)
    assert CODEC.decode(piece.value, Chunk) == Chunk(
        request_id="second", tenant="acme", attempt=0, index=0, text=ANSWER.text, last=True
    )
    assert (piece.topic, piece.key, piece.headers) == ("llm.replies.stream", sent.key, sent.headers)
    assert reply_of(sent).text == ANSWER.text
    assert reply_of(writer.refuse(asker, ErrorCode.INTERNAL, "why", NOW_MS)).error  # and no piece


def test_a_reply_goes_where_the_asker_listens(writer: ReplyWriter) -> None:
    (sent,) = writer.again(ASKER, ANSWER, CacheStatus.EXACT, NOW_MS)
    assert (sent.topic, sent.key) == ("shop.replies", b"key-7")
    assert sent.headers == {REQUEST_ID: b"second", TENANT: b"acme", TRACEPARENT: b"00-trace"}


def test_an_error_is_attributed_too(writer: ReplyWriter) -> None:
    reply = reply_of(writer.refuse(ASKER, ErrorCode.DEADLINE_EXCEEDED, "deadline_ms: passed", NOW_MS + 30))
    assert reply.error == ReplyError(code="deadline_exceeded", message="deadline_ms: passed", retryable=False)
    assert (reply.cache_status, reply.text, reply.route, reply.cost, reply.baseline_cost) == ("bypass", "", None, 0, 0)
    assert (reply.user, reply.endpoint, reply.category, reply.lane) == ("ada", "checkout", "shop", "batch")
    assert (reply.prompt_version, reply.latency.total_ms, reply.completed_ms) == ("v7", 30, NOW_MS + 30)


def test_whether_an_error_may_be_retried_follows_its_code(writer: ReplyWriter) -> None:
    for code in ErrorCode:
        error = reply_of(writer.refuse(ASKER, code, "why", NOW_MS)).error
        assert error is not None
        assert error.retryable is code.retryable


def test_clocks_that_disagree_make_no_negative_latency(writer: ReplyWriter) -> None:
    (sent,) = writer.again(ASKER, ANSWER, CacheStatus.EXACT, NOW_MS - 500, lookup_ms=3.0)
    assert reply_of(sent).latency == Latency(lookup_ms=3.0)


def test_replies_are_counted_by_status_and_outcome(writer: ReplyWriter) -> None:
    registry = CollectorRegistry()
    writer = ReplyWriter(CONFIG, CODEC, JobMetrics(registry))
    writer.again(ASKER, ANSWER, CacheStatus.EXACT, NOW_MS)
    writer.refuse(ASKER, ErrorCode.TOO_LARGE, "why", NOW_MS)
    assert total(registry, "forebay_replies_total", cache_status="exact", outcome="ok") == 1
    assert total(registry, "forebay_replies_total", cache_status="bypass", outcome="too_large") == 1


def test_the_similarity_of_hits_by_meaning_is_counted() -> None:
    registry = CollectorRegistry()
    writer = ReplyWriter(CONFIG, CODEC, JobMetrics(registry))
    writer.again(ASKER, ANSWER, CacheStatus.SEMANTIC, NOW_MS, similarity=0.965)
    writer.again(ASKER, ANSWER, CacheStatus.JOINED, NOW_MS)
    assert total(registry, "forebay_hit_similarity_ratio_bucket", le="0.96") == 0
    assert total(registry, "forebay_hit_similarity_ratio_bucket", le="0.97") == 1
    assert total(registry, "forebay_hit_similarity_ratio_count") == 1
