"""Feedback as the job reads it: what teaches, what is told to operators, and that none of it can harm the job."""

from typing import Any

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.feedback import Complaints
from forebay_jobs.messages import Arrival
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Event, Request, Verdict
from forebay_schemas.sections import CategoryConfig
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_feedback, make_reply, make_request
from tests.jobs.doubles import CODEC, Meaning, MemoryAnswers, MemoryIndex, NoRedis, an_arrival, metrics
from tests.redis_server import RedisServer

KNOWN, NEAR = "How do I return a parcel?", "How do I return a parcel, dear?"
TOPIC = "llm.feedback"


def _config() -> Config:
    own = {"acme.feedback": "acme"}
    categories = {"default": CategoryConfig(policy="fixed")}
    return load_config().model_copy(update={"categories": categories, "feedback_topics": own})


class Rig:
    """A job that has given NEAR the answer to KNOWN, as request-2 of acme."""

    def __init__(self, server: RedisServer) -> None:
        config = _config().model_copy(update={"redis": server.config().redis})
        self.answers = MemoryAnswers(config)
        self.meaning = Meaning(config, MemoryIndex(), self.answers, redis=RedisStore(config, metrics()))
        self.complaints = Complaints(config, CODEC, self.meaning.teacher)
        known = self._arrival(make_request(KNOWN))
        self.answers.keep(known.digest, Answer.of(make_reply(), known.epochs or {}, question=KNOWN), 60)
        self.meaning.cache.learn(known, self.meaning.embedder.embed([KNOWN])[0], NOW_MS)
        assert self.served()

    def served(self) -> bool:
        arrival = self._arrival(make_request(NEAR, request_id="request-2"))
        (found,) = self.meaning.cache.find([arrival], NOW_MS)
        return found.answer is not None

    def take(self, topic: str = TOPIC, **fields: Any) -> list[Event]:
        value = CODEC.encode(make_feedback(**{"request_id": "request-2", "verdict": Verdict.DOWN, **fields}))
        sent = self.complaints.take(topic, value, NOW_MS)
        assert {record.topic for record in sent} <= {"llm.events"}
        return [CODEC.decode(record.value, Event) for record in sent]

    def _arrival(self, request: Request) -> Arrival:
        return an_arrival(request, epochs=self.answers.current(request))


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
    config = _config()
    meaning = Meaning(config, MemoryIndex(), MemoryAnswers(config), redis=NoRedis())
    assert Complaints(config, CODEC, meaning.teacher).take(TOPIC, value, NOW_MS) == []
