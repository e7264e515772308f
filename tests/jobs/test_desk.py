"""The desk through its public methods: who leads, who joins, who is answered with what, and that nothing is left."""

import time

import msgspec
import pytest
from forebay_jobs.caches.answers import Answer, Judged
from forebay_jobs.desk import LONGEST_NAP_MS
from forebay_jobs.dispatch import Dispatcher
from forebay_jobs.messages import Cancel
from forebay_jobs.orphans import LIMIT
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.lesson import Lesson
from forebay_schemas.batches import batch_id, row_id
from forebay_schemas.canonical import digests
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheOptions, CacheScope, CacheStatus, Lane, Latency, ReplyError, Request
from forebay_schemas.topics import Headers, task_key

from tests.builders import NOW_MS, make_reply, make_request, make_result, system
from tests.jobs.doubles import (
    CODEC,
    EPOCHS,
    DeskRig,
    MemoryState,
    ScriptedMeaning,
    an_arrival,
    an_asker,
    cancelled_task,
    configured,
    only_task,
    replies,
    reply_of,
    reply_to,
    statuses,
    task_of,
)

LINGER_MS = 5_000
RULES = system("Answer in one sentence.")
ENGINE_FAILED = ReplyError(code="engine_failed", message="the engine broke", retryable=True)
REFUSED = ReplyError(code="engine_refused", message="no such schema", retryable=False)
CANCELLED = ReplyError(code="cancelled", message="taken back", retryable=False)
LATE = ReplyError(code="deadline_exceeded", message="too late", retryable=False)


@pytest.fixture
def rig() -> DeskRig:
    return DeskRig()


# Leading and joining


def test_a_request_is_dispatched_to_its_tier_with_all_that_a_worker_needs(rig: DeskRig) -> None:
    request = make_request(request_id="leader", user="ada", deadline_ms=NOW_MS + 60_000)
    assert rig.arrive(request, asker=an_asker(request, traceparent="00-trace"), lookup_ms=3.0) == []
    (sent,) = rig.tick()
    task = task_of(sent)
    assert sent.topic == "llm.tier.small"
    assert sent.key == task.task_id.encode()
    assert Headers.from_kafka({**sent.headers}) == Headers(
        request_id="leader", tenant="acme", deadline_ms=NOW_MS + 60_000, bucket="0.0", task=f"{task.task_id}/0",
        traceparent="00-trace",
    )  # fmt: skip
    assert CODEC.decode(task.request, Request) == request
    assert (task.reply_topic, task.reply_key, task.traceparent) == ("llm.replies", "key-leader", "00-trace")
    assert (task.route.tier, task.cache_status, task.similarity) == ("small", "miss", 0.5)
    assert (task.embedding_ms, task.lookup_ms) == (2, 4)


def test_batch_requests_go_to_the_batch_lane_of_the_tier(rig: DeskRig) -> None:
    rig.ask("night", lane=Lane.BATCH)
    assert [sent.topic for sent in rig.tick()] == ["llm.tier.small.batch"]


def test_equal_requests_share_one_generation(rig: DeskRig) -> None:
    rig.ask("leader")
    rig.ask("early")  # before the leader is dispatched
    task = only_task(rig.tick())
    rig.ask("late", endpoint=None, user="somebody")
    sent = rig.settle(task)
    assert statuses(sent) == {"early": "joined", "late": "joined"}
    assert {reply.text for reply in replies(sent).values()} == {"for acme: How do I return a parcel?"}
    assert {reply.matched_request_id for reply in replies(sent).values()} == {"leader"}
    assert {(one.topic, one.key) for one in sent} == {("llm.replies", b"key-early"), ("llm.replies", b"key-late")}
    rig.forget_all()
    assert rig.state.empty


def test_those_who_joined_and_want_pieces_get_the_whole_answer_as_one(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("plain")
    rig.ask("streaming", stream=True)
    sent = rig.settle(task)
    assert statuses(sent) == {"plain": "joined", "streaming": "joined"}
    assert [(one.topic, one.key) for one in sent] == [
        ("llm.replies", b"key-plain"), ("llm.replies.stream", b"key-streaming"), ("llm.replies", b"key-streaming"),
    ]  # fmt: skip


def test_different_requests_lead_flights_of_their_own_in_one_batch_interactive_first(rig: DeskRig) -> None:
    rig.ask("night", lane=Lane.BATCH)
    rig.ask("one")
    rig.arrive(make_request("What is a sluice?", request_id="two"))
    sent = rig.tick()
    assert [Headers.from_kafka({**one.headers}).request_id for one in sent] == ["one", "two", "night"]
    assert rig.meaning.batches == [3]


def test_a_landed_flight_answers_within_its_linger_and_not_after(rig: DeskRig) -> None:
    task = rig.lead()
    rig.settle(task)
    rig.tick(after_ms=LINGER_MS - 1)
    assert statuses(rig.ask("within")) == {"within": "joined"}
    rig.tick(after_ms=2_000)
    assert rig.ask("after") == []
    assert only_task(rig.tick()).reply_key == "key-after"


def test_a_landed_flight_does_not_answer_when_its_scope_was_invalidated(rig: DeskRig) -> None:
    rig.settle(rig.lead())
    epochs = EPOCHS | {"*": "2"}
    assert rig.arrive(make_request(request_id="after"), epochs=epochs) == []
    assert only_task(rig.tick()).reply_key == "key-after"


def test_a_landed_flight_does_not_answer_while_redis_cannot_say_whether_it_holds(rig: DeskRig) -> None:
    rig.settle(rig.lead())
    assert rig.arrive(make_request(request_id="after"), epochs=None, keep=False) == []
    assert only_task(rig.tick()).reply_key == "key-after"


@pytest.mark.parametrize("changes", [{"finish_reason": "length"}, {"text": " "}])
def test_a_truncated_or_empty_answer_is_for_those_who_waited_only(rig: DeskRig, changes: dict[str, str]) -> None:
    task = rig.lead()
    rig.ask("waiting")
    assert statuses(rig.settle(task, reply_to(task, **changes))) == {"waiting": "joined"}
    assert rig.ask("after") == []
    assert only_task(rig.tick()).reply_key == "key-after"


def test_a_flight_that_takes_the_place_of_a_landed_one_outlives_its_linger(rig: DeskRig) -> None:
    task = rig.lead()
    rig.settle(task, reply_to(task, finish_reason="length"))
    second = rig.lead("second")
    rig.tick(after_ms=LINGER_MS + 2_000)
    rig.ask("third")
    assert rig.settle(task) == []  # repeated, and of the flight before
    assert statuses(rig.settle(second)) == {"third": "joined"}
    rig.forget_all()
    assert rig.state.empty


def test_an_interactive_request_never_waits_on_a_batch_leader(rig: DeskRig) -> None:
    rig.lead("night", lane=Lane.BATCH)
    rig.ask("day")
    (sent,) = rig.tick()
    assert sent.topic == "llm.tier.small"
    assert task_of(sent).reply_key == "key-day"


def test_a_batch_request_joins_an_interactive_leader(rig: DeskRig) -> None:
    task = rig.lead("day")
    rig.ask("night", lane=Lane.BATCH)
    assert rig.tick() == []
    assert statuses(rig.settle(task)) == {"night": "joined"}


def test_a_batch_request_that_takes_an_interactive_leaders_place_keeps_its_lane(rig: DeskRig) -> None:
    task = rig.lead("day")
    rig.ask("night", lane=Lane.BATCH)
    (sent,) = rig.settle(task, reply_to(task, error=ENGINE_FAILED))
    assert sent.topic == "llm.tier.small"  # for an interactive request may join it now
    rig.ask("next day")
    assert statuses(rig.settle(task_of(sent))) == {"next day": "joined"}


@pytest.mark.parametrize(
    "bounds", [{"min_tier": "medium"}, {"max_tier": "small"}, {"cache": CacheOptions(ttl_s=60)}], ids=str
)
def test_requests_that_limit_their_answer_differently_do_not_join(rig: DeskRig, bounds: dict[str, object]) -> None:
    rig.lead()
    rig.ask("bounded", **bounds)
    rig.ask("same bounds", **bounds)
    task = only_task(rig.tick())
    assert task.reply_key == "key-bounded"
    assert statuses(rig.settle(task)) == {"same bounds": "joined"}


def test_requests_that_may_not_share_are_generated_one_by_one(rig: DeskRig) -> None:
    rig.lead()
    for request_id in ("refresh", "bypass"):
        rig.arrive(make_request(request_id=request_id), joinable=False, bypass=True, question=None)
    sent = rig.tick()
    assert [task_of(one).reply_key for one in sent] == ["key-refresh", "key-bypass"]
    assert {task_of(one).cache_status for one in sent} == {"bypass"}
    assert [rig.settle(task_of(one)) for one in sent] == [[], []]
    assert rig.ask("later") == []  # the leader of the shared flight is still out


@pytest.mark.parametrize("joinable", [True, False])
@pytest.mark.parametrize("landed", [True, False])
def test_the_same_request_again_is_dropped_while_its_flight_is_known(
    rig: DeskRig, joinable: bool, landed: bool
) -> None:
    request = make_request(request_id="leader")
    away = {"joinable": joinable, "epochs": None, "keep": False}  # with Redis it would not have come so far
    rig.arrive(request, **away)
    task = only_task(rig.tick())
    if landed:
        rig.settle(task)
    assert rig.arrive(request, **away) == []
    assert rig.tick() == []
    assert rig.metrics.duplicates._value.get() == 1


def test_the_task_of_a_dispatch_has_the_same_id_when_it_is_made_again() -> None:
    assert DeskRig().lead().task_id == DeskRig().lead().task_id
    assert DeskRig().lead().task_id != DeskRig().lead("other").task_id


def test_a_request_that_is_published_again_has_a_task_of_its_own(rig: DeskRig) -> None:
    """Workers pass over tasks that have a result: under the first one's id it would never be answered."""
    first = rig.lead()
    rig.settle(first, reply_to(first, error=ENGINE_FAILED))
    request = make_request(request_id="leader")
    rig.arrive(request, asker=an_asker(request, origin="requests/0/9"))
    assert only_task(rig.tick()).task_id != first.task_id


def test_tasks_with_the_same_static_turns_share_a_key_and_others_do_not(rig: DeskRig) -> None:
    for number in range(3):
        rig.arrive(make_request(f"What is {number}?", request_id=f"static-{number}", static_messages=[RULES]))
        rig.arrive(make_request(f"What is {number}?", request_id=f"plain-{number}"))
    keys = {task_of(sent).reply_key: sent.key for sent in rig.tick()}
    assert len({keys[f"key-static-{number}"] for number in range(3)}) == 1
    assert len({keys[f"key-plain-{number}"] for number in range(3)}) == 3


def test_batch_tasks_are_spread_over_all_workers_whatever_static_turns_they_share(rig: DeskRig) -> None:
    for number in range(5):
        rig.arrive(make_request(f"{number}?", request_id=f"row-{number}", static_messages=[RULES], lane=Lane.BATCH))
    assert all(sent.key.decode() == task_of(sent).task_id for sent in rig.tick())


def test_a_prefix_that_was_hot_a_minute_ago_is_spread_by_a_rule_that_does_not_change_on_a_second_dispatch() -> None:
    rig = DeskRig(configured(desk={"hot_prefix_per_min": 10}))

    def dispatch(minute: int) -> list[bytes]:
        for number in range(40):
            request = make_request(
                f"What is {number} of {minute}?",
                request_id=f"{minute}-{number}",
                created_ms=NOW_MS + minute * 60_000,
                static_messages=[RULES],
            )
            rig.arrive(request)
        before = rig.state.copy()
        first = [sent.key for sent in rig.tick()]
        rig.state = before
        assert [sent.key for sent in rig.tick()] == first
        return first

    assert [len(set(dispatch(minute))) for minute in (0, 1, 3)] == [1, 4, 1]


def test_a_follower_that_takes_the_lead_of_a_hot_flight_stays_on_its_keys() -> None:
    rig = DeskRig(configured(desk={"hot_prefix_per_min": 1}))
    rig.lead("warm", static_messages=[RULES], cache=CacheOptions(ttl_s=9))
    rig.lead("warmer", static_messages=[RULES], cache=CacheOptions(ttl_s=8))
    rig.ask("leader", static_messages=[RULES], created_ms=NOW_MS + 60_000)
    (sent,) = rig.tick()
    task = task_of(sent)
    rig.ask("heir", static_messages=[RULES])
    (promoted,) = rig.settle(task, reply_to(task, error=ENGINE_FAILED))
    prefix = digests(make_request(static_messages=[RULES])).prefix
    for one in (sent, promoted):
        assert one.key.decode() == task_key(prefix, task_of(one).task_id, 2)


# What a result does


def test_a_complete_answer_fills_both_caches(rig: DeskRig) -> None:
    task = rig.lead()
    rig.settle(task)
    (digest,) = rig.answers.answers
    kept = rig.answers.answers[digest]
    assert rig.meaning.learned == [digest]
    assert (kept.text, kept.request_id, kept.model_id) == (reply_to(task).text, "leader", "llama-3.1-8b")
    # Only that of the model and tier that answered: another model's invalidation is none of its business.
    assert kept.epochs == {"*": "1", "model:llama-3.1-8b": "1", "tier:small": "1"}


def test_a_request_that_is_not_looked_up_by_meaning_is_not_indexed(rig: DeskRig) -> None:
    rig.arrive(make_request(), question=None)
    rig.settle(only_task(rig.tick()))
    assert len(rig.answers.answers) == 1
    assert rig.meaning.learned == []


def test_an_answer_that_a_person_should_look_at_reaches_those_who_wait_and_is_not_kept(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("follower")
    (sent,) = rig.settle(task, reply_to(task, review=True))
    assert reply_of(sent).review
    assert rig.answers.answers == {}
    assert rig.ask("late") == []
    assert only_task(rig.tick()).task_id != task.task_id


@pytest.mark.parametrize("changes", [{"finish_reason": "length"}, {"finish_reason": None}, {"text": "\n "}])
def test_an_incomplete_answer_is_not_kept(rig: DeskRig, changes: dict[str, str | None]) -> None:
    task = rig.lead()
    rig.settle(task, reply_to(task, **changes))
    assert rig.answers.answers == {}
    assert rig.meaning.learned == []


def test_nothing_is_kept_of_a_request_that_may_not_be_reused_or_without_redis(rig: DeskRig) -> None:
    rig.arrive(make_request(request_id="personal"), keep=False, joinable=False)
    rig.settle(only_task(rig.tick()))
    assert rig.answers.answers == {}
    rig.answers.away = True
    rig.settle(rig.lead("cacheable"))
    assert rig.answers.answers == {}
    assert rig.meaning.learned == []


def test_results_of_unknown_repeated_and_foreign_tasks_change_nothing(rig: DeskRig) -> None:
    assert rig.desk.settle(rig.state, make_result(flight_key="none"), NOW_MS) == []
    task = rig.lead()
    rig.ask("waiting")
    assert rig.settle(task, task_id="another") == []
    assert list(statuses(rig.settle(task))) == ["waiting"]
    assert rig.settle(task) == []
    outcomes = {name: rig.metrics.results.labels(name)._value.get() for name in ("unknown", "repeated", "matched")}
    assert outcomes == {"unknown": 2, "repeated": 1, "matched": 1}


def test_a_result_for_a_leader_that_is_not_dispatched_yet_is_unknown(rig: DeskRig) -> None:
    rig.ask("leader")
    key = next(iter(rig.state.flights))
    assert rig.desk.settle(rig.state, make_result(flight_key=key), NOW_MS) == []
    assert only_task(rig.tick()).reply_key == "key-leader"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc3\x01garbage",
        CODEC.encode(make_reply(request_id="leader", route=None)),
        CODEC.encode(make_reply(request_id="leader", model_id=None)),
        CODEC.encode(make_reply(request_id="leader", tenant="rival")),
        CODEC.encode(make_reply(request_id="another")),
    ],
    ids=["empty", "garbage", "no route", "no model", "another tenant's", "another request's"],
)
def test_a_result_without_a_reply_to_the_leader_is_given_to_nobody_and_a_follower_leads(
    rig: DeskRig, payload: bytes
) -> None:
    task = rig.lead()
    rig.ask("follower")
    promoted = only_task(rig.settle(task, payload))
    assert promoted.reply_key == "key-follower"
    assert rig.answers.answers == {}
    assert rig.settle(promoted, payload) == []
    rig.forget_all()
    assert rig.state.empty


# Failures and deadlines


def test_after_a_retryable_failure_the_first_follower_leads_under_its_own_name(rig: DeskRig) -> None:
    task = rig.lead(cache=CacheOptions(scope=CacheScope.SHARED), metadata={"secret": "of the leader"}, priority=9)
    follower = make_request(
        request_id="heir",
        tenant="other",
        user="bob",
        category="default",
        deadline_ms=NOW_MS + 9_000,
        created_ms=NOW_MS - 5,
        priority=3,
        stream=True,
        cache=CacheOptions(scope=CacheScope.SHARED),
    )
    asker = an_asker(follower, traceparent="00-heir", accepted_ms=NOW_MS + 1)
    rig.arrive(follower, asker=asker)
    rig.ask("second heir", cache=CacheOptions(scope=CacheScope.SHARED))
    (sent,) = rig.settle(task, reply_to(task, error=ENGINE_FAILED))
    promoted = task_of(sent)
    assert promoted.task_id != task.task_id
    assert (promoted.reply_key, promoted.traceparent, promoted.accepted_ms) == ("key-heir", "00-heir", NOW_MS + 1)
    assert CODEC.decode(promoted.request, Request) == msgspec.structs.replace(follower, metadata={})
    assert Headers.from_kafka({**sent.headers}).tenant == "other"
    assert promoted.route == task.route
    sent_again = rig.settle(promoted)
    assert statuses(sent_again) == {"second heir": "joined"}
    assert replies(sent_again)["second heir"].matched_request_id is None  # another tenant's
    rig.forget_all()
    assert rig.state.empty


def test_the_workers_own_deadline_error_lets_a_follower_lead_too(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("heir")
    assert only_task(rig.settle(task, reply_to(task, error=LATE))).reply_key == "key-heir"


@pytest.mark.parametrize(("error", "free"), [(ENGINE_FAILED, True), (REFUSED, False), (None, False)], ids=str)
def test_after_a_failure_worth_a_retry_the_id_is_free_again(rig: DeskRig, error: ReplyError | None, free: bool) -> None:
    request = make_request(request_id="leader")
    rig.answers.look(request, "0" * 32, "requests/0/1", read=True)
    task = rig.lead()
    rig.settle(task, reply_to(task, error=error))
    assert rig.answers.look(request, "0" * 32, "requests/0/2", read=True).repeated is not free


def test_followers_whose_time_has_passed_do_not_lead_but_are_told(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("hasty", deadline_ms=NOW_MS + 100)
    rig.ask("patient")
    rig.now_ms += 500  # before the second in which its deadline is looked at
    late, promoted = rig.settle(task, reply_to(task, error=ENGINE_FAILED))
    assert statuses([late]) == {"hasty": "deadline_exceeded"}
    assert task_of(promoted).reply_key == "key-patient"


def test_a_failure_that_would_repeat_itself_is_told_to_all_who_joined(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("one")
    rig.ask("two")
    sent = replies(rig.settle(task, reply_to(task, error=REFUSED)))
    assert {request_id: reply.error for request_id, reply in sent.items()} == {"one": REFUSED, "two": REFUSED}
    rig.forget_all()
    assert rig.state.empty


@pytest.mark.parametrize("retryable", [True, False])
def test_an_error_code_of_a_newer_worker_is_passed_on_as_it_is(rig: DeskRig, retryable: bool) -> None:
    unknown = ReplyError(code="out_of_coffee", message="come back tomorrow", retryable=retryable)
    task = rig.lead()
    rig.ask("follower")
    (sent,) = rig.settle(task, reply_to(task, error=unknown))
    if retryable:
        assert task_of(sent).reply_key == "key-follower"
    else:
        assert reply_of(sent).error == unknown


def test_a_failed_leader_without_followers_leaves_nothing(rig: DeskRig) -> None:
    task = rig.lead()
    assert rig.settle(task, reply_to(task, error=ENGINE_FAILED)) == []
    rig.forget_all()
    assert rig.state.empty


def test_a_followers_deadline_detaches_it_and_nobody_else(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("hasty", deadline_ms=NOW_MS + 3_000)
    rig.ask("patient", deadline_ms=NOW_MS + 30_000)
    rig.ask("calm")
    assert rig.tick(after_ms=2_900) == []
    assert statuses(rig.tick(after_ms=1_100)) == {"hasty": "deadline_exceeded"}
    assert statuses(rig.settle(task)) == {"patient": "joined", "calm": "joined"}
    rig.forget_all()
    assert rig.state.empty


def test_each_of_many_deadlines_is_kept_within_a_second(rig: DeskRig) -> None:
    rig.lead()
    for second in (9, 2, 5, 90, 61):
        rig.ask(f"{second} s", deadline_ms=NOW_MS + second * 1_000)
    for now_s in range(1, 100):
        for request_id in replies(rig.tick(after_ms=1_000)):
            assert now_s - 1 <= int(request_id.removesuffix(" s")) <= now_s
    assert rig.state.waiters == {}


def test_a_leader_whose_deadline_passes_before_its_dispatch_is_told_and_a_follower_leads(rig: DeskRig) -> None:
    rig.ask("hasty", deadline_ms=NOW_MS + 3)
    rig.ask("patient")
    assert statuses(rig.tick(after_ms=5)) == {"hasty": "deadline_exceeded"}
    assert only_task(rig.tick()).reply_key == "key-patient"


def test_a_leader_alone_whose_deadline_passes_before_its_dispatch_leaves_nothing(rig: DeskRig) -> None:
    rig.ask("hasty", deadline_ms=NOW_MS + 3)
    assert statuses(rig.tick(after_ms=5)) == {"hasty": "deadline_exceeded"}
    rig.forget_all()
    assert rig.state.empty


def test_a_flight_without_a_result_is_given_up_in_the_end_and_a_follower_leads(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("heir")
    sent = [one for _ in range(31) for one in rig.tick(after_ms=60_000)]
    promoted = only_task(sent)
    assert promoted.reply_key == "key-heir"
    assert rig.settle(task) == []  # far too late
    rig.settle(promoted)
    rig.forget_all()
    assert rig.state.empty


# Taking back


def test_a_follower_that_is_taken_back_is_told_and_nobody_else(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("gone")
    rig.ask("patient")
    assert statuses(rig.cancel("gone")) == {"gone": "cancelled"}
    assert rig.cancel("gone") == []
    assert statuses(rig.settle(task)) == {"patient": "joined"}
    rig.forget_all()
    assert rig.state.empty


def test_a_leader_that_is_taken_back_before_its_dispatch_is_told_and_a_follower_leads(rig: DeskRig) -> None:
    rig.ask("gone")
    rig.ask("heir", priority=2)
    assert statuses(rig.cancel("gone")) == {"gone": "cancelled"}
    task = only_task(rig.tick())
    assert task.reply_key == "key-heir"
    assert rig.meaning.batches == [1]
    rig.settle(task)
    rig.forget_all()
    assert rig.state.empty


def test_a_leader_alone_that_is_taken_back_before_its_dispatch_leaves_nothing(rig: DeskRig) -> None:
    rig.ask("gone")
    assert statuses(rig.cancel("gone")) == {"gone": "cancelled"}
    rig.ask("next")
    assert only_task(rig.tick()).reply_key == "key-next"


def test_a_leader_whose_task_is_out_gets_its_answer_if_others_wait_for_it(rig: DeskRig) -> None:
    task = rig.lead("gone")
    rig.ask("waiting")
    assert rig.cancel("gone") == []
    assert statuses(rig.settle(task)) == {"waiting": "joined"}


def test_a_task_for_which_nobody_waits_any_more_is_cancelled_at_the_workers(rig: DeskRig) -> None:
    task = rig.lead("gone")
    rig.ask("gone too")
    rig.cancel("gone too")
    assert cancelled_task(rig.cancel("gone")) == task.task_id
    assert rig.settle(task, reply_to(task, error=CANCELLED)) == []
    assert rig.cancel("gone") == []
    rig.forget_all()
    assert rig.state.empty


def test_who_joined_a_task_while_it_was_cancelled_leads(rig: DeskRig) -> None:
    task = rig.lead("gone")
    rig.cancel("gone")
    rig.ask("late")
    assert only_task(rig.settle(task, reply_to(task, error=CANCELLED))).reply_key == "key-late"


def test_a_heir_is_taken_back_like_any_leader(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("heir")
    promoted = only_task(rig.settle(task, reply_to(task, error=ENGINE_FAILED)))
    assert rig.cancel("leader") == []
    assert cancelled_task(rig.cancel("heir")) == promoted.task_id


def test_what_does_not_wait_here_cannot_be_taken_back(rig: DeskRig) -> None:
    assert rig.cancel("unknown") == []
    task = rig.lead()
    assert rig.cancel("leader", tenant="rival") == []
    rig.settle(task)
    assert rig.cancel("leader") == []


def test_an_old_command_does_not_meet_a_new_request_under_the_same_id(rig: DeskRig) -> None:
    command = Cancel(tenant="acme", request_id="row-17", issued_ms=NOW_MS - 86_400_000)
    rig.ask("row-17")
    assert rig.desk.cancel(rig.state, command, NOW_MS) == []
    assert only_task(rig.tick()).reply_key == "key-row-17"


def test_a_batch_is_taken_back_by_one_command_and_others_are_left_alone(rig: DeskRig) -> None:
    batch, other = batch_id("ab" * 32), batch_id("cd" * 32)
    lane = {"lane": Lane.BATCH}
    running = rig.lead(row_id(batch, 1), **lane)
    rig.ask(row_id(batch, 2), **lane)
    rig.ask(row_id(other, 3), **lane)
    rig.arrive(make_request("What does it cost?", request_id=row_id(batch, 4), **lane))
    sent = rig.cancel(batch)
    assert statuses(sent) == {row_id(batch, 2): "cancelled", row_id(batch, 4): "cancelled"}
    assert len(sent) == 2  # no command for the task that is out: workers hear of batches themselves
    assert rig.cancel(batch) == []
    assert rig.tick() == []
    heir = only_task(rig.settle(running, reply_to(running, error=CANCELLED)))
    assert heir.reply_key == f"key-{row_id(other, 3)}"


# Results before their requests


def test_a_result_that_came_before_its_request_is_the_tasks_result_and_no_task_is_written() -> None:
    before, rig = DeskRig(), DeskRig()
    task = before.lead()
    assert rig.settle(task) == []  # the job was set back to before it had read anything
    rig.ask("leader")
    rig.ask("follower")
    assert statuses(rig.tick()) == {"follower": "joined"}
    assert len(rig.answers.answers) == 1
    assert rig.metrics.tasks.labels("small", "interactive", "complexity")._value.get() == 0
    rig.forget_all()
    assert rig.state.empty


def test_a_failure_that_came_before_its_request_lets_a_follower_lead_at_once() -> None:
    before, rig = DeskRig(), DeskRig()
    task = before.lead()
    rig.settle(task, reply_to(task, error=ENGINE_FAILED))
    rig.ask("leader")
    rig.ask("follower")
    assert only_task(rig.tick()).reply_key == "key-follower"


def test_a_result_of_the_next_leader_may_come_before_the_first_one_failed(rig: DeskRig) -> None:
    task = rig.lead()
    rig.ask("heir")
    early = rig.state.copy()
    promoted = only_task(rig.settle(task, reply_to(task, error=ENGINE_FAILED)))
    rig.state = early
    rig.ask("other")
    assert rig.settle(promoted) == []
    assert statuses(rig.settle(task, reply_to(task, error=ENGINE_FAILED))) == {"other": "joined"}


def test_results_of_unknown_tasks_are_kept_for_a_while_and_not_in_any_number() -> None:
    rig = DeskRig(configured(desk={"orphan_result_s": 60.0}))
    for number in range(LIMIT + 5):
        rig.desk.settle(rig.state, make_result(task_id=f"task-{number}"), rig.now_ms)
        rig.desk.settle(rig.state, make_result(task_id=f"task-{number}"), rig.now_ms)  # read twice
    assert len(rig.state.orphans) == len(rig.state.orphan_queue()) == LIMIT
    assert "task-4" not in rig.state.orphans
    rig.now_ms += 30_000
    rig.desk.settle(rig.state, make_result(task_id="younger"), rig.now_ms)
    rig.tick(after_ms=32_000)
    assert list(rig.state.orphans) == ["younger"]
    rig.tick(after_ms=32_000)
    assert rig.state.empty


# By meaning


def test_a_similar_questions_answer_serves_the_leader_and_all_who_joined_meanwhile(rig: DeskRig) -> None:
    known = Answer.of(make_reply(request_id="known", text="By post."), {}, None)
    rig.meaning.known["How do I return a parcel?"] = known
    rig.ask("leader")
    rig.ask("follower")
    sent = rig.tick()
    assert statuses(sent) == {"leader": "semantic", "follower": "semantic"}
    assert {(reply.text, reply.matched_request_id, reply.similarity) for reply in replies(sent).values()} == {
        ("By post.", "known", 0.99)
    }
    assert rig.state.empty
    assert rig.meaning.joiners == 1


def test_a_generated_answer_is_compared_with_the_known_one_that_was_decided_on(rig: DeskRig) -> None:
    task = rig.lead()
    rig.settle(task)
    assert rig.meaning.compared == [("known", reply_to(task).text)]


def test_what_is_read_again_after_a_failure_teaches_no_second_time(rig: DeskRig) -> None:
    task = rig.lead()
    checkpoint = rig.state.copy()
    before = rig.settle(task)
    rig.answers.note([Judged(digest=digests(make_request()).exact, hits=1)])
    rig.state = checkpoint
    assert rig.settle(task) == before
    assert len(rig.meaning.compared) == 1
    assert rig.answers.judged  # what was learned of the answer is still there


@pytest.mark.parametrize(("says", "right"), [("same", True), ("Different.", False), ("Well, ...", None)])
def test_what_the_judge_leaves_open_is_asked_of_the_large_tier_and_shown_to_nobody(
    rig: DeskRig, says: str, right: bool | None
) -> None:
    task = rig.lead()
    rig.settle(task)
    digest = digests(make_request()).exact
    rig.meaning.open[digest] = Lesson(
        owner="tenant:acme",
        tenant="acme",
        category="default",
        decision=Decision(verdict=Verdict.TOO_FAR, policy="fixed"),
        entry="known",
        epochs={},
        digest=digest,
        question="How?",
        text="Like this.",
        known_text="Like that.",
        bucket="0.0",
    )
    (sent,) = rig.tick(after_ms=LINGER_MS + 1_000)
    asked = task_of(sent)
    assert (sent.topic, asked.reply_topic) == ("llm.tier.large.batch", "llm.audit")
    assert rig.settle(asked, reply_to(asked, text=says)) == []
    assert rig.meaning.verdicts == [right]
    assert rig.answers.answers.keys() == {digest}  # the verdict is in no cache
    rig.forget_all()
    assert rig.state.empty


def test_what_waits_in_several_buckets_is_looked_up_once_and_in_one_batch(rig: DeskRig) -> None:
    asked = [f"How do I return parcel {number}?" for number in range(3)]
    rig.meaning.known[asked[2]] = Answer.of(make_reply(), {}, None)
    buckets = [MemoryState(f"{number}.0") for number in range(3)]
    for number, (bucket, text) in enumerate(zip(buckets, asked, strict=True)):
        rig.desk.arrive(bucket, an_arrival(make_request(text, request_id=f"request-{number}")), NOW_MS)
    rig.desk.cancel(buckets[1], Cancel(tenant="acme", request_id="request-1", issued_ms=NOW_MS), NOW_MS)
    sent = [rig.desk.tick(bucket, NOW_MS + late_ms) for bucket, late_ms in zip(buckets, (0, 1, 9), strict=True)]
    assert rig.meaning.batches == [2]
    assert CODEC.decode(only_task(sent[0]).request, Request).request_id == "request-0"
    assert sent[1] == []
    hit = reply_of(*sent[2])
    assert (hit.request_id, hit.cache_status) == ("request-2", CacheStatus.SEMANTIC)
    assert hit.completed_ms == NOW_MS + 9  # it was found at 3, and its own bucket came to it at 9


def test_a_hit_by_meaning_took_as_long_as_the_embedding_and_the_lookup_of_its_batch(rig: DeskRig) -> None:
    rig.meaning.known["How do I return a parcel?"] = Answer.of(make_reply(), {}, None)
    rig.ask("leader", created_ms=NOW_MS - 10)
    reply = replies(rig.tick(after_ms=20))["leader"]
    assert reply.completed_ms == NOW_MS + 23
    assert reply.latency == Latency(queue_ms=30, embedding_ms=2, lookup_ms=1, total_ms=33)


# State


def test_a_thousand_followers_are_held_and_released_in_little_time(rig: DeskRig) -> None:
    task = rig.lead()
    started = time.process_time()
    for number in range(1_000):
        rig.ask(f"follower-{number}", deadline_ms=NOW_MS + 30_000 + number)
    assert sum(map(len, rig.state.due.values())) <= 2  # looks at the flight, not one for each follower
    assert len(replies(rig.settle(task))) == 1_000
    assert time.process_time() - started < 5  # about 0.2 s
    rig.forget_all()
    assert rig.state.empty


def test_no_look_at_a_flight_is_noted_further_ahead_than_a_minute(rig: DeskRig) -> None:
    rig.lead()
    rig.ask("follower", deadline_ms=253_402_300_799_999)  # the end of the year 9999
    for _ in range(40):
        assert len(rig.state.due) <= 2
        assert max(rig.state.due) * 1_000 <= rig.now_ms + LONGEST_NAP_MS + 1_000
        rig.tick(after_ms=30_000)


def test_keys_are_not_confused_by_odd_characters_in_names(rig: DeskRig) -> None:
    odd = ["a:b", "a", "b", ":", "!", "/0", "\u2603", "x" * 200]
    for tenant in odd:
        for request_id in odd:
            rig.arrive(make_request(request_id=request_id, tenant=tenant), joinable=False)
    assert len(rig.tick()) == len(odd) ** 2


def test_a_request_restored_under_another_configuration_is_still_answered() -> None:
    before = DeskRig()
    before.config.kafka.reply_topics.append("old.replies")
    request = make_request(request_id="leader", min_tier="medium", max_tier="medium")
    before.arrive(request, asker=an_asker(request, reply_topic="old.replies"))
    before.ask("follower", min_tier="medium", max_tier="medium")
    tiers = load_config().tiers
    after = DeskRig(load_config().model_copy(update={"tiers": {"cheap": tiers["small"], "dear": tiers["large"]}}))
    after.state = before.state.copy()
    (sent,) = after.tick()
    assert sent.topic in ("llm.tier.cheap", "llm.tier.dear")
    assert task_of(sent).reply_topic == "llm.replies"
    # And one that was dispatched before the tiers changed:
    dispatched = before.tick()
    after.state = before.state.copy()
    promoted = after.settle(task_of(dispatched[0]), reply_to(task_of(dispatched[0]), error=ENGINE_FAILED))
    assert [one.topic in ("llm.tier.cheap", "llm.tier.dear") for one in promoted] == [True]


def test_flights_of_an_older_version_of_the_job_can_be_read() -> None:
    rig = DeskRig()
    rig.lead()
    (key,) = rig.state.flights
    fields = msgspec.msgpack.decode(rig.state.flights[key])
    for younger in ("lane", "looked_at_ms", "spread"):
        del fields[younger]
    rig.state.flights[key] = msgspec.msgpack.encode(fields)
    rig.ask("follower", deadline_ms=NOW_MS + 1_000)
    assert statuses(rig.tick(after_ms=2_500)) == {"follower": "deadline_exceeded"}


def test_a_desk_without_linger_forgets_at_once() -> None:
    rig = DeskRig(configured(desk={"flight_linger_s": 0.0}))
    rig.settle(rig.lead())
    rig.tick(after_ms=1_000)
    assert rig.state.flights == {}


def test_a_flight_on_which_the_desk_breaks_ends_with_errors_and_harms_no_other(rig: DeskRig) -> None:
    """What cannot happen as far as anyone knows: a request that intake accepted and the desk cannot read."""
    for request_id in ("broken", "follower"):
        request = make_request("unreadable", request_id=request_id)
        rig.answers.look(request, "0" * 32, "requests/0/1", read=True)
    rig.arrive(make_request("unreadable", request_id="broken"), request=b"garbage")
    rig.arrive(make_request("unreadable", request_id="follower"), request=b"garbage")
    rig.ask("sound")
    sent = rig.tick()
    assert statuses(sent[:2]) == {"broken": "internal", "follower": "internal"}
    assert [reply.error.retryable for reply in replies(sent[:2]).values() if reply.error] == [True, True]
    assert not rig.answers.seen  # both may be sent again
    rig.settle(task_of(sent[2]))
    rig.forget_all()
    assert not rig.state.flights


def test_a_result_on_which_the_desk_breaks_releases_those_who_wait(
    rig: DeskRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = rig.lead()
    rig.ask("follower")
    monkeypatch.delattr(type(rig.answers), "keep")  # a store that is none
    assert statuses(rig.settle(task)) == {"follower": "internal"}
    assert not rig.state.flights


@pytest.mark.parametrize(("owner", "part"), [(ScriptedMeaning, "find"), (Dispatcher, "prepare")])
def test_a_batch_on_which_a_part_breaks_is_generated(
    owner: type, part: str, rig: DeskRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would be the end: a restored job would read the same batch again, and die again."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(owner, part, broken)
    for request_id in ("one", "other"):
        rig.ask(request_id, max_tokens=len(request_id))
    tasks = [task_of(sent) for sent in rig.tick()]
    assert [CODEC.decode(task.request, Request).request_id for task in tasks] == ["one", "other"]
    rig.settle(tasks[0])
    # Without its meaning nobody knows whether an answer holds for longer than a moment.
    assert bool(rig.answers.answers) is (part == "prepare")
