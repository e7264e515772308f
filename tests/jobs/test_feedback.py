"""Feedback as the job reads it: what teaches, what operators are told, that it waits for Redis, and harms nobody."""

from typing import Any

import pytest
from forebay_jobs import feedback
from forebay_jobs.caches.answers import Answer, AnswerStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.desk import Desk
from forebay_jobs.feedback import Thumbs
from forebay_jobs.messages import Arrival
from forebay_schemas.canonical import digests
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import load_config
from forebay_schemas.records import Event, Request, Verdict
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_feedback, make_reply, make_request
from tests.jobs.doubles import (
    CODEC,
    Meaning,
    MemoryIndex,
    MemoryState,
    a_dispatcher,
    an_arrival,
    events,
    metrics,
    the_shadows,
)
from tests.redis_server import RedisServer
from tests.waiting import eventually

KNOWN, NEAR = "How do I return a parcel?", "How do I return a parcel, dear?"
TOPIC = "llm.feedback"


class Rig:
    """A job that has given NEAR the answer to KNOWN, as request-2 of acme."""

    def __init__(self, server: RedisServer) -> None:
        reached = server.config(timeout_ms=1_000, retry_after_ms=10).redis
        config = load_config().model_copy(
            update={
                "categories": {"default": CategoryConfig(policy="fixed")},
                "feedback_topics": {"acme.feedback": "acme"},
                "redis": reached,
            }
        )
        self.metrics = metrics()
        redis = RedisStore(config, self.metrics)
        self.answers = AnswerStore(config, redis)
        self.meaning = Meaning(config, MemoryIndex(), self.answers, self.metrics, redis)
        dispatcher, shadows = a_dispatcher(config, self.metrics), the_shadows(config, self.metrics)
        self.desk = Desk(config, CODEC, self.answers, self.meaning.cache, dispatcher, shadows, self.metrics)
        self.state = MemoryState()
        self.thumbs = Thumbs(config, CODEC)
        self.now_ms = NOW_MS
        known = self._arrival(make_request(KNOWN))
        self.answers.keep(known.digest, Answer.of(make_reply(), known.epochs or {}, question=KNOWN), 60)
        self.meaning.cache.learn(known, self.meaning.embedder.embed([KNOWN])[0], NOW_MS)
        assert self.served("request-2")

    def served(self, request_id: str = "again", words: str = NEAR, user: str | None = None) -> bool:
        arrival = self._arrival(make_request(words, request_id=request_id, user=user))
        (found,) = self.meaning.cache.find([arrival], NOW_MS)
        return found.answer is not None

    def take(self, topic: str = TOPIC, **fields: Any) -> list[Event]:
        """Feedback is read; what operators are told."""
        value = CODEC.encode(make_feedback(**{"request_id": "request-2", "verdict": Verdict.DOWN, **fields}))
        thumb = self.thumbs.take(topic, value)
        return events(self.desk.thumb(self.state, thumb, self.now_ms)) if thumb else []

    def later(self) -> list[Event]:
        """Some seconds pass."""
        self.now_ms += 3_000
        return events(self.desk.tick(self.state, self.now_ms))

    def counted(self, outcome: str) -> float:
        return self.metrics.reuse_thumbs.labels(outcome)._value.get()

    def _arrival(self, request: Request) -> Arrival:
        epochs = self.answers.look(request, digests(request).exact, request.request_id, read=False).epochs
        return an_arrival(request, epochs=epochs)


@pytest.fixture
def rig(redis_server: RedisServer) -> Rig:
    return Rig(redis_server)


def test_a_thumb_down_on_a_hit_quarantines_its_entry_and_says_so_once(rig: Rig) -> None:
    (event,) = rig.take()
    assert event.event == "entry_quarantined"
    assert event.attributes["request_id"] == "request-2"
    assert event.attributes["by"] == "user"
    assert not rig.served()
    assert rig.take() == []
    assert rig.state.empty


def test_what_is_said_while_redis_is_away_waits_for_it_and_outlives_the_job(
    rig: Rig, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    assert rig.take() == []
    for _ in range(2):
        assert rig.later() == []
    rig.state = rig.state.copy()  # as after a restore
    redis_server.thaw()
    found = eventually(rig.later, "Redis is asked again")
    assert [event.attributes["request_id"] for event in found] == ["request-2"]
    assert not rig.served()
    assert rig.later() == []
    assert (rig.counted("waiting"), rig.counted("quarantined")) == (1, 1)


def test_no_more_waits_than_there_is_room_for(
    rig: Rig, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MOST_WAITING", 2)
    redis_server.freeze()
    for request_id in ("old", "old too", "request-2", "newest"):
        rig.take(request_id=request_id)
    rig.later()
    assert rig.counted("dropped") == 2
    redis_server.thaw()
    assert len(eventually(rig.later, "Redis is asked again")) == 1


def test_a_thumb_up_takes_back_what_a_rewording_said(rig: Rig) -> None:
    for user in ("ada", "bob"):
        assert rig.served(f"of-{user}", user=user)
        rig.served(words="How do I return a parcel, dears?", user=user)
    assert not rig.served(user="eve")
    assert rig.take(request_id="of-bob", verdict=Verdict.UP) == []
    assert rig.served(user="eve")
    assert rig.counted("taken_back") == 1
    rig.take(request_id="of-bob")
    rig.take(request_id="of-ada", verdict=Verdict.UP)
    assert not rig.served(user="eve")  # a thumb down is not taken back by it


@pytest.mark.parametrize(
    "fields",
    [{"verdict": Verdict.UP}, {"request_id": "request-1"}, {"tenant": "rival"}, {"request_id": ""}],
    ids=str,
)
def test_other_feedback_changes_nothing(rig: Rig, fields: dict[str, Any]) -> None:
    assert rig.take(**fields) == []
    assert rig.served()


def test_a_tenants_own_topic_speaks_for_that_tenant_only(rig: Rig) -> None:
    assert rig.take("acme.feedback", tenant="rival") == []
    assert rig.served()
    assert len(rig.take("acme.feedback")) == 1


@given(value=st.binary(max_size=40) | st.just(CODEC.encode(make_request())))
def test_what_is_no_feedback_is_passed_over(value: bytes) -> None:
    assert Thumbs(load_config(), CODEC).take(TOPIC, value) is None
