"""The semantic cache: what is embedded, which neighbour's answer may be given, and that it fails open."""

from typing import Any

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.caches.semantic import Found, SemanticCache
from forebay_jobs.messages import Arrival
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheOptions, Request

from tests.builders import NOW_MS, make_reply, make_request, make_route, system
from tests.jobs.doubles import LetterEmbedder, MemoryAnswers, MemoryIndex, an_arrival, metrics

KNOWN = "How do I return a parcel?"
NEAR = "How do I return a parcel, dear?"  # 0.98 by its letters
FAR = "Who wrote Hamlet?"


class Rig:
    def __init__(self, config: Config | None = None) -> None:
        self.config = config or load_config()
        self.embedder = LetterEmbedder()
        self.index = MemoryIndex()
        self.answers = MemoryAnswers(self.config)
        self.metrics = metrics()
        self.cache = SemanticCache(self.config, self.embedder, self.index, self.answers, self.metrics)

    def arrival(self, request: Request, **fields: Any) -> Arrival:
        return an_arrival(request, **{"epochs": self.answers.current(request), **fields})

    def learn(self, request: Request, *, own_ttl_s: int | None = None, **fields: Any) -> None:
        """A request was answered."""
        arrival = self.arrival(request)
        (found,) = self.cache.find([arrival], NOW_MS)
        assert found.vector is not None
        self.answers.keep(
            arrival.digest, Answer.of(make_reply(completed_ms=NOW_MS, **fields), arrival.epochs or {}, own_ttl_s), 60
        )
        self.cache.learn(arrival, self.embedder.embed([arrival.question or ""])[0], NOW_MS)

    def find(self, request: Request, *, after_ms: int = 0, **fields: Any) -> Found:
        (found,) = self.cache.find([self.arrival(request, **fields)], NOW_MS + after_ms)
        return found

    def store_up(self, store: str) -> float:
        return self.metrics.store_up.labels(store)._value.get()


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.learn(make_request(KNOWN))
    return rig


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
    rig.learn(make_request(KNOWN), route=make_route(tier="large"))
    assert rig.find(make_request(NEAR, min_tier="medium")).answer is not None
    assert rig.find(make_request(NEAR, max_tier="medium")).answer is None


def test_an_answer_is_given_within_its_time_only(rig: Rig) -> None:
    assert rig.find(make_request(NEAR), after_ms=86_399_999).answer is not None
    assert rig.find(make_request(NEAR), after_ms=86_400_000).answer is None
    asked = make_request(NEAR, cache=CacheOptions(ttl_s=5))
    assert rig.find(asked, after_ms=4_999).answer is not None
    assert rig.find(asked, after_ms=5_000).answer is None
    rig.learn(make_request(KNOWN), own_ttl_s=3)
    assert rig.find(make_request(NEAR), after_ms=3_000).answer is None


def test_a_categorys_threshold_decides() -> None:
    strict = load_config().category("default").model_copy(update={"similarity": 0.999})
    rig = Rig(load_config().model_copy(update={"categories": {"default": strict}}))
    rig.learn(make_request(KNOWN))
    assert rig.find(make_request(NEAR)).answer is None


def test_an_invalidated_neighbour_is_not_given_and_leaves_the_index(rig: Rig) -> None:
    rig.answers.invalidate("tenant:acme")
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
