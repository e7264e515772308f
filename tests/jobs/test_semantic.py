"""The semantic cache: what is embedded, which neighbour's answer may be given, what is remembered of it, and that it
fails open."""

from typing import Any

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.caches.semantic import Found
from forebay_jobs.messages import Arrival, asker_name
from forebay_jobs.reuse.teacher import Outcome
from forebay_schemas.canonical import digests
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config
from forebay_schemas.invalidation import Invalidation
from forebay_schemas.records import CacheOptions, CacheScope, Lane, Request

from tests.builders import NOW_MS, make_reply, make_request, make_route, system
from tests.jobs.doubles import (
    LetterEmbedder,
    Meaning,
    MemoryAnswers,
    MemoryIndex,
    an_arrival,
    an_asker,
    decided_by,
    metrics,
)
from tests.redis_server import RedisServer

KNOWN = "How do I return a parcel?"
NEAR = "How do I return a parcel, dear?"  # 0.98 by its letters
FAR = "Who wrote Hamlet?"


class Rig:
    def __init__(self, server: RedisServer, config: Config) -> None:
        self.config = config.model_copy(update={"redis": server.config().redis})
        self.client = server.client()
        self.embedder = LetterEmbedder()
        self.index = MemoryIndex()
        self.answers = MemoryAnswers(self.config)
        self.metrics = metrics()
        self.generated = 0
        self.open()

    def open(self) -> None:
        """As a process begins, which knows nothing but what the stores hold."""
        redis = RedisStore(self.config, self.metrics)
        self.prefix = redis.prefix
        meaning = Meaning(self.config, self.index, self.answers, self.metrics, redis, self.embedder)
        self.cache, self.hits = meaning.cache, meaning.hits
        self.namespaces, self.teacher = meaning.namespaces, meaning.teacher

    def arrival(self, request: Request, **fields: Any) -> Arrival:
        return an_arrival(request, **{"epochs": self.answers.current(request), **fields})

    def generate(self, request: Request, *, own_ttl_s: int | None = None, **fields: Any) -> Found:
        """A request is looked for and answered by a tier, whatever was found; what was found."""
        arrival = self.arrival(request)
        (found,) = self.cache.find([arrival], NOW_MS)
        self.generated += 1
        reply = make_reply(completed_ms=NOW_MS, request_id=f"request-{self.generated}", **fields)
        self.answers.keep(arrival.digest, Answer.of(reply, arrival.epochs or {}, own_ttl_s, arrival.question), 60)
        self.cache.learn(arrival, self.embedder.embed([arrival.question or ""])[0], NOW_MS)
        if found.decision is not None and found.entry is not None:
            self.cache.compare(arrival, found.decision, found.entry, reply.text)
        self.teacher.work()
        return found

    def find(self, request: Request, *, after_ms: int = 0, **fields: Any) -> Found:
        (found,) = self.cache.find([self.arrival(request, **fields)], NOW_MS + after_ms)
        return found

    def complain(self, request_id: str, tenant: str = "acme") -> Outcome:
        """Somebody says that the answer to a request was wrong; what became of it."""
        complained = self.teacher.complained(asker_name(tenant, request_id), "user")
        assert complained is not None
        return complained.outcome

    def store_up(self, store: str) -> float:
        return self.metrics.store_up.labels(store)._value.get()


@pytest.fixture
def fixed(redis_server: RedisServer) -> Rig:
    return Rig(redis_server, decided_by(policy="fixed"))


@pytest.fixture
def rig(fixed: Rig) -> Rig:
    fixed.generate(make_request(KNOWN))
    return fixed


def test_a_question_of_the_same_meaning_gets_the_known_answer(rig: Rig) -> None:
    found = rig.find(make_request(NEAR))
    assert found.answer is not None
    assert found.answer.request_id == "request-1"
    assert found.similarity is not None
    assert 0.95 < found.similarity < 1
    assert found.embedding_ms > 0
    assert found.lookup_ms > 0


def test_a_far_question_is_told_how_far_its_neighbour_is(rig: Rig) -> None:
    found = rig.find(make_request(FAR))
    assert found.answer is None
    assert found.similarity is not None
    assert found.similarity < 0.95


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant": "rival"},
        {"static_messages": [system("Answer in French.")]},
        {"max_tokens": 5},
        {"response_format": '{"type": "json_object"}'},
        {"category": "shop"},
        {"prompt_version": "v2"},
        {"cache": CacheOptions(sources=["prices"])},
    ],
    ids=str,
)
def test_nothing_is_found_across_different_contexts(rig: Rig, fields: dict[str, Any]) -> None:
    found = rig.find(make_request(NEAR, **fields))
    assert (found.answer, found.similarity) == (None, None)


def test_a_request_that_is_only_indexed_is_embedded_and_not_looked_up(rig: Rig) -> None:
    found = rig.find(make_request(NEAR), look_by_meaning=False)
    assert found.vector is not None
    assert (found.answer, found.similarity) == (None, None)


def test_a_request_without_a_question_is_left_alone(rig: Rig) -> None:
    assert rig.find(make_request(NEAR), question=None) == Found()


def test_a_question_that_the_model_does_not_grasp_is_neither_looked_up_nor_indexed(rig: Rig) -> None:
    assert rig.find(make_request("How do I return a \u2603?")) == Found()


def test_a_batch_keeps_apart_who_asked_what(rig: Rig) -> None:
    arrivals = [
        rig.arrival(make_request("?"), question=None),
        rig.arrival(make_request(FAR)),
        rig.arrival(make_request("\u2603?")),
        rig.arrival(make_request(NEAR, tenant="rival")),
        rig.arrival(make_request(NEAR)),
    ]
    found = rig.cache.find(arrivals, NOW_MS)
    assert [one.answer is not None for one in found] == [False, False, False, False, True]
    assert [one.vector is not None for one in found] == [False, True, False, True, True]
    assert rig.cache.find([], NOW_MS) == []


def test_an_answer_is_given_within_the_asked_tiers_only(rig: Rig) -> None:
    assert rig.find(make_request(NEAR, min_tier="medium")).answer is None
    rig.generate(make_request(KNOWN), route=make_route(tier="large"))
    assert rig.find(make_request(NEAR, min_tier="medium")).answer is not None
    assert rig.find(make_request(NEAR, max_tier="medium")).answer is None


def test_an_answer_is_given_within_its_time_only(rig: Rig) -> None:
    assert rig.find(make_request(NEAR), after_ms=86_399_999).answer is not None
    assert rig.find(make_request(NEAR), after_ms=86_400_000).answer is None
    asked = make_request(NEAR, cache=CacheOptions(ttl_s=5))
    assert rig.find(asked, after_ms=4_999).answer is not None
    assert rig.find(asked, after_ms=5_000).answer is None
    rig.generate(make_request(KNOWN), own_ttl_s=3)
    assert rig.find(make_request(NEAR), after_ms=3_000).answer is None


def test_a_categorys_threshold_decides(redis_server: RedisServer) -> None:
    rig = Rig(redis_server, decided_by(policy="fixed", similarity=0.999))
    rig.generate(make_request(KNOWN))
    assert rig.find(make_request(NEAR)).answer is None


def test_an_invalidated_neighbour_is_not_given_and_leaves_the_index(rig: Rig) -> None:
    rig.answers.invalidate(Invalidation(tenant="acme"))
    assert rig.find(make_request(NEAR)).answer is None
    assert rig.index.points == {}


def test_a_neighbour_whose_answer_is_gone_leaves_the_index(rig: Rig) -> None:
    rig.answers.answers.clear()
    assert rig.find(make_request(NEAR)).answer is None
    assert rig.index.points == {}


def test_without_redis_a_neighbour_is_not_given_and_stays(rig: Rig) -> None:
    rig.answers.away = True
    assert rig.find(make_request(NEAR)).answer is None
    assert rig.index.points.keys() == {digests(make_request(KNOWN)).exact}


def test_without_the_index_questions_are_embedded_and_nothing_is_found_or_learned(rig: Rig) -> None:
    rig.index.broken = True
    found = rig.find(make_request(NEAR))
    assert (found.answer, found.similarity) == (None, None)
    assert found.vector is not None
    rig.cache.learn(rig.arrival(make_request(FAR)), rig.embedder.embed([FAR])[0], NOW_MS)
    assert rig.store_up("qdrant") == 0


def test_a_model_that_fails_harms_nobody(rig: Rig) -> None:
    rig.embedder.broken = True
    assert rig.find(make_request(NEAR)) == Found()
    assert rig.store_up("embedder") == 0


# What is remembered of an answer that was given, and what teaches


def test_a_hit_can_be_explained_and_is_complained_about_once(rig: Rig) -> None:
    given = rig.find(make_request(NEAR, request_id="again"))
    hit = rig.hits.find("4:acme:again")
    assert hit is not None
    assert (hit.hit.question, hit.hit.matched_question) == (NEAR, KNOWN)
    assert hit.hit.decision == given.decision
    assert hit.complaint is None
    assert rig.complain("again") is Outcome.QUARANTINED
    assert rig.complain("again") is Outcome.NOTHING
    assert rig.complain("never-given") is Outcome.NOTHING
    known = rig.hits.find("4:acme:again")
    assert known is not None
    assert known.complaint == "user"


def test_a_wrong_hits_entry_is_given_to_equal_questions_only_until_it_is_generated_anew(rig: Rig) -> None:
    rig.find(make_request(NEAR, request_id="wrong"))
    rig.complain("wrong")
    assert rig.find(make_request(NEAR)).answer is None
    assert digests(make_request(KNOWN)).exact in rig.answers.answers
    rig.generate(make_request(KNOWN))
    assert rig.find(make_request(NEAR)).answer is not None


def test_the_worst_hits_are_those_complained_about_then_the_most_doubtful(rig: Rig) -> None:
    for number, words in enumerate((NEAR, f"{NEAR}!", "How do I return a parcel, dears?"), start=1):
        assert rig.find(make_request(words, request_id=f"hit-{number}")).answer is not None
    rig.complain("hit-1")
    assert [known.hit.name for known in rig.hits.worst(2)] == ["4:acme:hit-1", "4:acme:hit-3"]


def test_who_asks_again_in_other_words_is_not_given_the_same_answer(rig: Rig) -> None:
    assert rig.find(make_request(NEAR, user="ada", request_id="first")).answer is not None
    assert rig.find(make_request("How do I return a parcel, dears?", user="bob")).answer is not None
    assert rig.find(make_request("How do I return a parcel, dears?", user="ada")).answer is None
    known = rig.hits.find("4:acme:first")
    assert known is not None
    assert known.complaint == "rewording"
    assert rig.find(make_request(NEAR, user="eve")).answer is not None  # once may be a change of mind


def test_who_asks_twice_in_other_words_has_the_entry_quarantined_and_operators_told(rig: Rig) -> None:
    told = []
    for user in ("ada", "bob"):
        rig.find(make_request(NEAR, user=user, request_id=f"of-{user}"))
        told.append(rig.find(make_request("How do I return a parcel, dears?", user=user)).quarantined)
    assert [hit and hit.name for hit in told] == [None, "4:acme:of-bob"]
    assert rig.find(make_request(NEAR, user="eve")).answer is None


@pytest.mark.parametrize("fields", [{"lane": Lane.BATCH}, {"static_messages": [system("Answer in French.")]}], ids=str)
def test_what_is_asked_elsewhere_or_by_a_program_is_no_rewording(rig: Rig, fields: dict[str, Any]) -> None:
    rig.find(make_request(NEAR, user="ada", request_id="first"))
    rig.find(make_request("How do I return a parcel, dears?", user="ada", **fields))
    known = rig.hits.find("4:acme:first")
    assert known is not None
    assert known.complaint is None


def test_what_only_the_router_is_to_know_is_embedded_and_complains_about_nothing(rig: Rig) -> None:
    rig.find(make_request(NEAR, user="ada", request_id="first"))
    asked = make_request("How do I return a parcel, dears?", user="ada")
    found = rig.find(asked, look_by_meaning=False, keep=False)
    assert found.vector is not None
    assert (found.answer, found.similarity, found.decision) == (None, None, None)
    known = rig.hits.find("4:acme:first")
    assert known is not None
    assert known.complaint is None


def test_one_tenants_complaint_about_a_shared_answer_holds_for_itself_until_another_agrees(fixed: Rig) -> None:
    shared = {"cache": CacheOptions(scope=CacheScope.SHARED)}
    fixed.generate(make_request(KNOWN, **shared))

    def served(tenant: str, request_id: str = "again") -> bool:
        return fixed.find(make_request(NEAR, tenant=tenant, request_id=request_id, **shared)).answer is not None

    assert all(served(tenant, f"of-{tenant}") for tenant in ("acme", "rival", "third"))
    assert fixed.complain("of-acme") is Outcome.COUNTED
    assert [served(tenant) for tenant in ("acme", "rival", "third")] == [False, True, True]
    assert fixed.complain("of-rival", "rival") is Outcome.QUARANTINED
    assert not served("third")


def test_a_thumb_down_after_a_rewording_quarantines_too(rig: Rig) -> None:
    rig.find(make_request(NEAR, user="ada", request_id="first"))
    rig.find(make_request("How do I return a parcel, dears?", user="ada"))
    assert rig.complain("first") is Outcome.QUARANTINED
    assert rig.complain("first") is Outcome.NOTHING
    assert rig.find(make_request(NEAR)).answer is None
    assert sum(one.wrong for judged in rig.answers.judged.values() for one in judged) == 1


def test_who_joined_a_hit_may_complain_too(rig: Rig) -> None:
    arrival = rig.arrival(make_request(NEAR, request_id="leader"))
    (found,) = rig.cache.find([arrival], NOW_MS)
    follower = an_asker(make_request(NEAR, request_id="follower", tenant="acme"))
    rig.cache.joined(arrival, found, [follower], NOW_MS)
    assert rig.complain("follower") is Outcome.QUARANTINED
    assert rig.find(make_request(NEAR)).answer is None


def test_the_list_of_hits_forgets_what_is_forgotten(rig: Rig) -> None:
    rig.find(make_request(NEAR, request_id="old"))
    client = rig.client
    (key,) = client.scan_iter("*:hit:4:acme:old")
    client.delete(key)
    rig.find(make_request(f"{NEAR}!", request_id="new"))
    assert [known.hit.name for known in rig.hits.worst(10)] == ["4:acme:new"]
    assert client.zcard(f"{rig.prefix}:hits") == 1


def test_the_same_words_again_are_no_rewording(rig: Rig) -> None:
    for _ in range(3):
        assert rig.find(make_request(NEAR, user="ada")).answer is not None


def test_an_adaptive_threshold_begins_strict_and_follows_what_is_right(redis_server: RedisServer) -> None:
    rig = Rig(redis_server, decided_by(policy="adaptive", adaptive={"start": 0.99, "precision": 0.5}))
    rig.generate(make_request(KNOWN))
    assert rig.find(make_request(NEAR)).answer is None
    for _ in range(20):
        rig.generate(make_request(NEAR))
        rig.index.remove(digests(make_request(NEAR)).exact)
    assert rig.find(make_request(NEAR, request_id="right")).answer is not None
    for number in range(20):
        rig.find(make_request(NEAR, request_id=f"wrong-{number}"))
        rig.complain(f"wrong-{number}")
        rig.generate(make_request(KNOWN))  # no longer in quarantine
    assert rig.find(make_request(NEAR)).answer is None


def test_a_bounded_policy_learns_from_what_was_generated_and_a_new_process_knows_it(redis_server: RedisServer) -> None:
    rig = Rig(redis_server, decided_by(policy="bounded", delta=0.05))
    rig.generate(make_request(KNOWN))
    before = rig.find(make_request(NEAR)).decision
    for number in range(1, 60):
        rig.generate(make_request(f"{NEAR}{'.' * number}"))
    rig.namespaces.sync()
    rig.open()
    after = rig.find(make_request(NEAR)).decision
    assert before is not None
    assert before.wrong is not None
    assert after is not None
    assert after.wrong is not None
    assert after.wrong < before.wrong / 2


def test_an_answer_that_says_the_same_joins_its_neighbours_group(rig: Rig) -> None:
    known, near, far = (digests(make_request(text)).exact for text in (KNOWN, NEAR, f"{NEAR}?"))
    rig.generate(make_request(NEAR))
    rig.generate(make_request(f"{NEAR}?"), text="Something else entirely: see the appendix.")
    groups = {digest: [one.group for one in rig.answers.judged.get(digest, []) if one.group] for digest in (near, far)}
    assert groups == {near: [known], far: []}


def test_what_was_learned_is_put_back_where_redis_lost_it(redis_server: RedisServer) -> None:
    rig = Rig(redis_server, decided_by(policy="bounded"))
    rig.generate(make_request(KNOWN))
    for number in range(10):
        rig.generate(make_request(f"{NEAR}{'.' * number}"))
    rig.namespaces.sync()
    before = rig.find(make_request(NEAR)).decision
    redis_server.client().flushall()
    rig.namespaces.sync()
    rig.open()
    after = rig.find(make_request(NEAR)).decision
    assert before is not None
    assert after is not None
    assert after.wrong == pytest.approx(before.wrong, rel=0.05)


def test_without_redis_the_policies_go_on_with_what_they_know(redis_server: RedisServer) -> None:
    rig = Rig(redis_server, decided_by(policy="bounded"))
    rig.generate(make_request(KNOWN))
    redis_server.kill()
    for number in range(10):
        found = rig.generate(make_request(f"{NEAR}{'.' * number}"))
        assert found.decision is not None
    redis_server.start()


def test_delta_and_decisions_are_told_by_category_and_of_those_without_settings_together(
    redis_server: RedisServer,
) -> None:
    config = decided_by(policy="bounded", delta=0.05)
    categories = {**config.categories, "faq": CategoryConfig(delta=0.02), "plain": CategoryConfig(policy="fixed")}
    rig = Rig(redis_server, config.model_copy(update={"categories": categories}))
    for category in ("faq", "any", "other"):
        rig.find(make_request(NEAR, category=category))

    def told(metric: Any) -> dict[str, float]:
        samples = (sample for family in metric.collect() for sample in family.samples)
        return {one.labels["category"]: one.value for one in samples if not one.name.endswith("_created")}

    assert told(rig.metrics.reuse_delta) == {"default": 0.05, "faq": 0.02}
    assert told(rig.metrics.reuse_decisions) == {"default": 2, "faq": 1}
