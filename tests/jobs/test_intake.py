"""Intake: every record ends in a reply, a dead letter or an arrival, and no record of any kind makes it raise."""

import random
from typing import Any

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Cancel, Incoming, Outgoing
from forebay_jobs.throttle import Pressure
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config, load_config
from forebay_schemas.invalidation import Invalidation
from forebay_schemas.records import CacheOptions, CachePolicy, DeadLetter, Lane, Message, Reply, Request
from forebay_schemas.sections import RequestTopic
from forebay_schemas.topics import (
    DEAD_LETTER_BYTES,
    DEADLINE,
    REPLY_KEY,
    REPLY_TOPIC,
    REQUEST_ID,
    TENANT,
    TRACEPARENT,
    Headers,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_reply, make_request, make_route
from tests.jobs.doubles import CODEC, MemoryAnswers, configured, metrics
from tests.schemas.strategies import records, requests

DEAD = "llm.requests.dead"
IDS = {REQUEST_ID: b"from-header", TENANT: b"acme"}


class IntakeRig:
    """An intake over answers in memory."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load_config()
        self.answers = MemoryAnswers(self.config)
        self.metrics = metrics()
        self.clock_s = 0.0
        self.pressure = Pressure(lambda: self.clock_s)
        self.intake = Intake(self.config, CODEC, self.answers, self.metrics, pressure=self.pressure)
        self.offset = 0

    def take(
        self,
        value: Request | bytes,
        headers: dict[str, bytes | None] | None = None,
        *,
        lane: Lane = Lane.INTERACTIVE,
        topic: str = "llm.requests",
        offset: int | None = None,
        now_ms: int = NOW_MS + 10,
    ) -> list[Outgoing | Arrival]:
        """One record, by default at the next offset of the topic."""
        self.offset += 1
        record = Incoming(
            topic=topic,
            partition=0,
            offset=self.offset if offset is None else offset,
            value=CODEC.encode(value) if isinstance(value, Request) else value,
            headers=headers or {},
        )
        return self.intake.take(record, lane, now_ms)

    def arrives(self, value: Request, **how: Any) -> Arrival:
        (item,) = self.take(value, **how)
        assert isinstance(item, Arrival)
        return item

    def answered(self, value: Request, **how: Any) -> Reply:
        (item,) = self.take(value, **how)
        return reply_in(item)

    def given_up(self, value: Request | bytes, *args: Any, **how: Any) -> tuple[DeadLetter, Reply | None]:
        """The dead letter, and the error reply where there is one."""
        letter, *rest = self.take(value, *args, **how)
        assert isinstance(letter, Outgoing)
        assert letter.topic == DEAD
        assert len(rest) <= 1
        return CODEC.decode(letter.value, DeadLetter), reply_in(rest[0]) if rest else None

    def cache(self, request: Request, *, ttl_s: int | None = None, rules: str = "", **fields: Any) -> None:
        """Put an answer to a request into the exact cache."""
        reply = make_reply(request_id="first", **fields)
        answer = Answer.of(reply, self.answers.current(request), ttl_s, rules=rules)
        self.answers.keep(digests(request).exact, answer, 60)


def reply_in(item: Outgoing | Arrival) -> Reply:
    assert isinstance(item, Outgoing)
    return CODEC.decode(item.value, Reply)


def code_of(reply: Reply | None) -> str | None:
    return reply.error.code if reply and reply.error else None


@pytest.fixture
def rig() -> IntakeRig:
    return IntakeRig()


# Bad records

VALID = CODEC.encode(make_request())


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "not_avro"),
        (b"GET / HTTP/1.1", "not_avro"),
        (b"\xc3\x01", "not_avro"),
        (VALID[:2] + bytes(8) + VALID[10:], "unknown_schema"),
        (VALID[:-3], "malformed"),
        (VALID + b"\0", "malformed"),
        (VALID.replace(b"parcel", b"\xed\xa0\x80cel"), "malformed"),
    ],
    ids=["empty", "text", "marker alone", "unknown schema", "truncated", "trailing bytes", "lone surrogate"],
)
def test_a_value_that_cannot_be_decoded_is_a_dead_letter_and_an_error_where_headers_name_the_asker(
    rig: IntakeRig, value: bytes, code: str
) -> None:
    letter, reply = rig.given_up(value)
    assert (letter.code, letter.value, letter.value_length) == (code, value, len(value))
    assert (letter.place, letter.topic, letter.partition, letter.offset) == ("job", "llm.requests", 0, 1)
    assert reply is None
    letter, reply = rig.given_up(value, {**IDS, REPLY_KEY: b"mine"})
    assert (letter.request_id, letter.tenant) == ("from-header", "acme")
    assert code_of(reply) == code


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [Message(role="oracle", content="hm")]}, "messages[0].role"),
        ({"messages": [Message(role="user", content=" ")]}, "messages"),
        ({"messages": [Message(role="user", content="a\0b")]}, "messages[0].content"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": float("inf")}, "top_p"),
        ({"created_ms": -1}, "created_ms"),
        ({"created_ms": 2**62}, "created_ms"),
        ({"deadline_ms": 2**62}, "deadline_ms"),
        ({"deadline_ms": -(2**63)}, "deadline_ms"),
        ({"tools": "["}, "tools"),
        ({"min_tier": "none"}, "min_tier"),
        ({"user": ""}, "user"),
        ({"lane": Lane.BATCH}, "lane"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_answered_is_named_in_the_error_and_in_the_dead_letter(
    rig: IntakeRig, fields: dict[str, Any], field: str
) -> None:
    request = make_request(**fields)
    letter, reply = rig.given_up(request, {REPLY_KEY: b"mine"})
    assert reply is not None
    assert reply.error is not None
    assert reply.error.message == letter.reason
    assert letter.reason.startswith(f"{field}: ")
    assert (reply.request_id, reply.tenant, letter.request_id) == ("request-1", "acme", "request-1")
    assert not reply.error.retryable


def test_an_error_reply_goes_where_the_asker_listens(rig: IntakeRig) -> None:
    rig = IntakeRig(configured(kafka={"reply_topics": ["shop.replies"]}))
    headers = {REPLY_TOPIC: b"shop.replies", REPLY_KEY: b"mine", TRACEPARENT: b"00-trace"}
    _, sent = rig.take(make_request(max_tokens=0), {**headers})
    assert isinstance(sent, Outgoing)
    assert (sent.topic, sent.key) == ("shop.replies", b"mine")
    read = Headers.from_kafka({**sent.headers})
    assert read == Headers(request_id="request-1", tenant="acme", traceparent="00-trace")


@pytest.mark.parametrize("topic", [b"llm.control", b"llm.audit"])  # to the second the job sends what it asks itself
def test_a_reply_topic_that_is_not_allowed_gets_nothing(rig: IntakeRig, topic: bytes) -> None:
    letter, sent = rig.take(make_request(), {REPLY_TOPIC: topic})
    assert isinstance(letter, Outgoing)
    assert isinstance(sent, Outgoing)
    assert (letter.topic, sent.topic) == (DEAD, "llm.replies")
    assert code_of(reply_in(sent)) == "invalid_request"


@pytest.mark.parametrize(
    "headers",
    [{TRACEPARENT: b"\xff"}, {REPLY_KEY: b"k" * 5_000}, {DEADLINE: b"soon"}, {REQUEST_ID: b"\xff", TENANT: b"\xff"}],
    ids=["not UTF-8", "huge", "no number", "ids not UTF-8"],
)
def test_headers_that_cannot_be_read_are_told_to_the_author_of_the_value(
    rig: IntakeRig, headers: dict[str, bytes | None]
) -> None:
    letter, reply = rig.given_up(make_request(), headers)
    assert letter.code == code_of(reply) == "malformed"
    assert letter.request_id == "request-1"


def test_a_record_above_the_size_limit_is_cut_in_its_dead_letter(rig: IntakeRig) -> None:
    letter, reply = rig.given_up(b"x" * (rig.config.kafka.max_record_bytes + 1), {**IDS})
    assert (letter.code, letter.value_length) == ("too_large", rig.config.kafka.max_record_bytes + 1)
    assert letter.value == b"x" * DEAD_LETTER_BYTES
    assert code_of(reply) == "too_large"


@pytest.mark.parametrize("field", ["request_id", "tenant", "user", "endpoint", "category", "prompt_version"])
def test_names_of_a_megabyte_are_not_repeated_in_what_is_written(rig: IntakeRig, field: str) -> None:
    request = make_request(**{field: "x" * 900_000})
    sent = rig.take(request, {**IDS})
    assert len(sent) == 2  # the headers name the asker where the value cannot
    for one in sent:
        assert isinstance(one, Outgoing)
        assert len(one.key) + len(one.value) + sum(map(len, one.headers.values())) < 2 * DEAD_LETTER_BYTES


def test_a_topic_of_one_tenant_takes_no_request_of_another_and_fails_none_of_its_requests() -> None:
    topic = RequestTopic(tenant="acme")
    rig = IntakeRig(load_config().model_copy(update={"request_topics": {"acme.requests": topic}}))
    assert rig.arrives(make_request(request_id="own"), topic="acme.requests").asker.tenant == "acme"
    letter, reply = rig.given_up(make_request(tenant="rival"), topic="acme.requests")
    assert letter.code == code_of(reply) == "tenant_not_allowed"
    assert reply is not None
    assert reply.tenant == "acme"
    # What cannot even be read is no way around it:
    _, reply = rig.given_up(b"garbage", {REQUEST_ID: b"request-1", TENANT: b"rival"}, topic="acme.requests")
    assert reply is not None
    assert reply.tenant == "acme"


def test_a_record_that_breaks_a_library_is_a_dead_letter_too(rig: IntakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_jobs.intake.digests", lambda request: 1 / 0)
    letter, reply = rig.given_up(make_request())
    assert letter.code == code_of(reply) == "invalid_request"
    assert "ZeroDivisionError" in letter.reason


def test_a_request_whose_deadline_has_passed_gets_an_error_and_no_dead_letter(rig: IntakeRig) -> None:
    reply = rig.answered(make_request(deadline_ms=NOW_MS + 5), now_ms=NOW_MS + 7)
    assert reply.error is not None
    assert reply.error.code == "deadline_exceeded"
    assert "2 ms" in reply.error.message


# The exact cache


def test_an_equal_request_is_answered_at_once_with_full_attribution(rig: IntakeRig) -> None:
    rig.cache(make_request(), text="By post.", route=make_route(tier="small"))
    asked = make_request("How do I  return a parcel?\n", request_id="second", user="ada", endpoint=None)
    reply = rig.answered(asked, now_ms=NOW_MS + 12)
    assert (reply.cache_status, reply.text, reply.matched_request_id) == ("exact", "By post.", "first")
    assert (reply.request_id, reply.tenant, reply.user) == ("second", "acme", "ada")
    assert (reply.route, reply.model_id) == (make_route(), "llama-3.1-8b")
    assert (reply.cost, reply.hops, reply.latency.total_ms) == (0.0, 0, 12.0)


def test_what_rules_let_be_kept_is_given_without_them_and_is_looked_at_again_by_other_ones(rig: IntakeRig) -> None:
    first, second = (make_request("Is the hotline open today?", request_id=name) for name in ("first", "second"))
    rig.cache(first, rules="those of an older version")
    assert rig.arrives(first).bypass
    rig.cache(first, rules=rig.arrives(make_request(request_id="harmless")).rules)
    assert rig.answered(second).cache_status == "exact"


@pytest.mark.parametrize("ttl_s", [None, 60])
def test_what_is_reused_by_its_wish_alone_is_no_rule_for_others(rig: IntakeRig, ttl_s: int | None) -> None:
    wishes = rig.arrives(make_request("Is the hotline open today?", cache=CacheOptions(ttl_s=ttl_s)))
    assert (wishes.rules, wishes.keep) == ("", ttl_s is not None)


def test_an_exact_hit_took_as_long_as_its_lookup(rig: IntakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.cache(make_request())
    clock = iter((5.0, 5.003))
    monkeypatch.setattr("forebay_jobs.intake.time.perf_counter", lambda: next(clock))
    reply = rig.answered(make_request(), now_ms=NOW_MS + 12)
    assert reply.completed_ms == NOW_MS + 15
    assert (reply.latency.lookup_ms, reply.latency.total_ms) == (pytest.approx(3), 15)


@pytest.mark.parametrize(
    ("bounds", "hit"),
    [
        ({"min_tier": "medium"}, True),
        ({"max_tier": "medium"}, True),
        ({"min_tier": "large"}, False),
        ({"max_tier": "small"}, False),
    ],
    ids=str,
)
def test_an_answer_counts_only_within_the_tiers_that_the_request_allows(
    rig: IntakeRig, bounds: dict[str, str], hit: bool
) -> None:
    rig.cache(make_request(), route=make_route(tier="medium"))
    (item,) = rig.take(make_request(**bounds))
    assert isinstance(item, Outgoing) is hit


def test_the_tier_that_answered_counts_not_the_one_that_was_asked_first(rig: IntakeRig) -> None:
    rig.cache(make_request(), route=make_route(tier="small"), tier="large")
    assert rig.answered(make_request(min_tier="large")).tier == "large"
    rig.arrives(make_request(request_id="bounded", max_tier="small"))


def test_an_exact_hit_streams_too(rig: IntakeRig) -> None:
    rig.cache(make_request())
    piece, reply = rig.take(make_request(stream=True))
    assert isinstance(piece, Outgoing)
    assert piece.topic == "llm.replies.stream"
    assert reply_in(reply).cache_status == "exact"


def test_an_answer_of_a_tier_that_is_no_more_does_not_count(rig: IntakeRig) -> None:
    rig.cache(make_request(), route=make_route(tier="gone"))
    rig.arrives(make_request())


def test_an_answer_counts_as_long_as_the_request_its_author_and_its_category_allow() -> None:
    rig = IntakeRig(
        load_config().model_copy(
            update={"categories": {"brief": load_config().category("default").model_copy(update={"exact_ttl_s": 5})}}
        )
    )

    def hit(age_s: float, *, author_ttl_s: int | None = None, **fields: Any) -> bool:
        request = make_request(request_id=f"after {rig.offset}", **fields)
        rig.cache(request, completed_ms=NOW_MS, ttl_s=author_ttl_s)
        (item,) = rig.take(request, now_ms=NOW_MS + round(age_s * 1_000))
        return isinstance(item, Outgoing)

    assert hit(86_399)
    assert not hit(86_400)
    assert hit(4, category="brief")
    assert not hit(5, category="brief")
    assert hit(2, cache=CacheOptions(ttl_s=3))
    assert not hit(3, cache=CacheOptions(ttl_s=3))
    assert hit(2, author_ttl_s=3)
    assert not hit(3, author_ttl_s=3)


def test_past_its_objective_an_answer_is_generated_anew_by_one_request_while_the_others_get_the_old_one() -> None:
    news = load_config().category("default").model_copy(update={"fresh_s": 60})
    rig = IntakeRig(load_config().model_copy(update={"categories": {"news": news}}))

    def ask(age_s: float, category: str = "news") -> Outgoing | Arrival:
        request = make_request(request_id=f"after {rig.offset}", category=category)
        rig.cache(request, completed_ms=NOW_MS)
        (item,) = rig.take(request, now_ms=NOW_MS + round(age_s * 1_000))
        return item

    assert isinstance(ask(59), Outgoing)
    leads = ask(60)
    assert isinstance(leads, Arrival)
    assert (leads.joinable, leads.keep, leads.bypass) == (True, True, False)
    assert (leads.look_by_meaning, leads.question is not None) == (False, True)  # else it would find the old answer
    assert isinstance(ask(61), Outgoing)
    assert isinstance(ask(1_000, category="without an objective"), Outgoing)
    assert [rig.metrics.freshness.labels("news", age)._value.get() for age in ("within", "past")] == [1, 1]


def test_an_invalidated_answer_does_not_count(rig: IntakeRig) -> None:
    request = make_request(cache=CacheOptions(sources=["prices"]))
    rig.cache(request)
    rig.answers.invalidate(Invalidation(source="prices"))
    rig.arrives(request)


@pytest.mark.parametrize(
    "fields",
    [
        {"cache": CacheOptions(policy=CachePolicy.BYPASS)},
        {"cache": CacheOptions(policy=CachePolicy.REFRESH)},
        {"temperature": 1.0},
        {"messages": [Message(role="user", content="Where is my order?")]},
        {"messages": [Message(role="user", content="Is the hotline open today?")]},
    ],
    ids=str,
)
def test_a_request_that_may_not_read_the_caches_does_not_and_joins_nobody(
    rig: IntakeRig, fields: dict[str, Any]
) -> None:
    rig.cache(make_request(**fields))
    arrival = rig.arrives(make_request(**fields))
    assert arrival.bypass
    assert not arrival.joinable
    assert not arrival.look_by_meaning
    refresh = fields.get("cache") == CacheOptions(policy=CachePolicy.REFRESH)
    assert arrival.keep is refresh  # a refresh replaces what is kept, and is indexed
    bypass = fields.get("cache") == CacheOptions(policy=CachePolicy.BYPASS)
    assert (arrival.question is not None) is (refresh or bypass)  # which learned weights route as without that wish


def test_a_request_goes_to_the_desk_with_all_that_it_needs(rig: IntakeRig) -> None:
    request = make_request(cache=CacheOptions(ttl_s=9), deadline_ms=NOW_MS + 1_000, max_tier="medium")
    arrival = rig.arrives(request, headers={REPLY_KEY: b"mine", TRACEPARENT: b"00-trace"}, now_ms=NOW_MS + 1)
    assert arrival.request == CODEC.encode(request)
    assert (arrival.digest, arrival.context) == (digests(request).exact, digests(request).context)
    assert (arrival.question, arrival.ttl_s, arrival.epochs) == (
        "How do I return a parcel?", 9, rig.answers.current(request),
    )  # fmt: skip
    assert arrival.joinable
    assert arrival.look_by_meaning
    assert arrival.keep
    assert not arrival.bypass
    asker = arrival.asker
    assert (asker.reply_topic, asker.reply_key, asker.traceparent) == ("llm.replies", "mine", "00-trace")
    assert (asker.created_ms, asker.accepted_ms, asker.deadline_ms) == (NOW_MS, NOW_MS + 1, NOW_MS + 1_000)
    assert (asker.category, asker.max_tier, asker.lane) == ("default", "medium", "interactive")


def test_without_redis_a_request_is_answered_but_neither_looked_up_nor_kept(rig: IntakeRig) -> None:
    rig.cache(make_request())
    rig.answers.away = True
    arrival = rig.arrives(make_request())
    assert arrival.joinable  # equal ones in flight need no Redis
    assert (arrival.keep, arrival.look_by_meaning, arrival.epochs) == (False, False, None)
    assert arrival.question is not None  # it is routed as with Redis, by learned weights


# Repeats and what is taken back


def test_a_request_that_was_taken_back_before_it_was_read_is_refused_and_goes_no_further(rig: IntakeRig) -> None:
    rig.cache(make_request())
    rig.answers.note_cancelled(Cancel(tenant="acme", request_id="request-1", issued_ms=NOW_MS))
    assert code_of(rig.answered(make_request())) == "cancelled"
    assert rig.answered(make_request(request_id="another")).cache_status == "exact"


def test_an_id_that_is_published_again_is_dropped(rig: IntakeRig) -> None:
    rig.arrives(make_request())
    assert rig.take(make_request()) == []
    assert rig.take(make_request("Another text under the same id?")) == []
    assert rig.metrics.duplicates._value.get() == 2


def test_a_record_that_is_read_again_after_a_failure_is_no_repeat_of_itself(rig: IntakeRig) -> None:
    first = rig.arrives(make_request(), offset=7)
    assert rig.arrives(make_request(), offset=7).asker == first.asker


def test_ids_are_unique_within_a_tenant_only(rig: IntakeRig) -> None:
    rig.arrives(make_request(tenant="acme"))
    rig.arrives(make_request(tenant="other"))


def test_a_request_that_was_refused_may_be_sent_again_under_its_id(rig: IntakeRig) -> None:
    rig.given_up(make_request(max_tokens=0))
    rig.arrives(make_request(max_tokens=1))


# Anything at all

_headers = st.dictionaries(
    st.sampled_from([REQUEST_ID, TENANT, REPLY_TOPIC, REPLY_KEY, DEADLINE, TRACEPARENT, "x"]) | st.text(max_size=5),
    st.none() | st.binary(max_size=30) | st.sampled_from([b"llm.replies", b"12", b"x" * 2_000]),
    max_size=5,
)


def _mutated(value: bytes, seed: int) -> bytes:
    """Some bytes of an encoded request changed, moved or lost, behind the schema's fingerprint."""
    chance = random.Random(seed)
    data = bytearray(value)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(10, len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 5)))
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case _:
                data[at] ^= 1 << chance.randrange(8)
        if len(data) <= 11:
            break
    return bytes(data)


_values = st.one_of(
    st.binary(max_size=60),
    requests.map(CODEC.encode),
    records(Request).map(CODEC.encode),
    st.builds(_mutated, requests.map(CODEC.encode), st.integers(0, 2**32)),
)


@given(value=_values, headers=_headers, lane=st.sampled_from(Lane), away=st.booleans())
def test_any_record_ends_in_one_reply_or_one_dead_letter_or_one_arrival(
    value: bytes, headers: dict[str, bytes | None], lane: Lane, away: bool
) -> None:
    rig = IntakeRig()
    rig.answers.away = away
    items = rig.take(value, headers, lane=lane)
    arrivals = [item for item in items if isinstance(item, Arrival)]
    letters = [item for item in items if isinstance(item, Outgoing) and item.topic == DEAD]
    answers = [item for item in items if isinstance(item, Outgoing) and item.topic == "llm.replies"]
    assert len(items) == len(arrivals) + len(letters) + len(answers)
    assert (len(arrivals), len(letters), len(answers)) in {(1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)}
    for letter in letters:
        assert isinstance(letter, Outgoing)
        assert "cannot handle" not in CODEC.decode(letter.value, DeadLetter).reason  # nothing unforeseen
    for answer in answers:
        reply_in(answer)
