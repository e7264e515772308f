"""Feedback as a service gives it, on a broker in memory."""

import time
from typing import Any

import pytest
from forebay_client import AsyncClient, BrokerUnavailable, Client, ClientClosed, InvalidRequest
from forebay_schemas.config import Config
from forebay_schemas.records import Feedback, FeedbackSource, Verdict

from tests.builders import make_feedback
from tests.producers.doubles import MemoryKafka


def given(kafka: MemoryKafka) -> list[Feedback]:
    return [sent.feedback for sent in kafka.thumbs]


def test_a_thumb_reaches_the_topic_under_the_key_of_its_request(client: Client, kafka: MemoryKafka) -> None:
    before_ms = time.time_ns() // 1_000_000
    client.feedback("r1", "down")
    [sent] = kafka.thumbs
    assert (sent.topic, sent.key) == ("llm.feedback", b"r1")
    assert (sent.headers.request_id, sent.headers.tenant) == ("r1", "acme")
    found = sent.feedback
    assert (found.verdict, found.source, found.user) == (Verdict.DOWN, FeedbackSource.USER, None)
    assert before_ms <= found.given_ms <= time.time_ns() // 1_000_000
    assert kafka.inboxes == [], "nothing is read for it"


def test_all_that_may_be_said_is_in_the_record(client: Client, kafka: MemoryKafka) -> None:
    said: dict[str, Any] = {"user": "ada", "reason": "outdated", "refined_by": "r2", "given_ms": 7}
    client.feedback("r1", "down", tenant="globex", source="judge", **said)
    expected = make_feedback(request_id="r1", tenant="globex", source=FeedbackSource.JUDGE, **said)
    assert given(kafka) == [expected]


def test_a_tenant_with_a_topic_of_its_own_gives_feedback_there(kafka: MemoryKafka, config: Config) -> None:
    own = config.model_copy(update={"feedback_topics": {"acme.feedback": "acme"}})
    with Client("acme", config=own) as client:
        client.feedback("r1", "up")
        client.feedback("r1", "up", tenant="globex")
    assert [sent.topic for sent in kafka.thumbs] == ["acme.feedback", "llm.feedback"]


@pytest.mark.parametrize(
    ("request_id", "verdict", "fields", "message"),
    [
        ("", "up", {}, "request_id: is empty; give it a value"),
        (None, "up", {}, "request_id: has the wrong type"),
        ("r1", "sideways", {}, "verdict: is 'sideways'; use one of up, down"),
        ("r1", True, {}, "verdict: is True; use one of up, down"),
        ("r1", "up", {"source": "oracle"}, "source: is 'oracle'; use one of user, judge, rule"),
        ("r1", "up", {"tenant": ""}, "tenant: is empty; give it a value"),
        ("r1", "up", {"comment": "nice"}, "comment: is no field of feedback; use one of tenant, user, reason"),
        ("r1", "up", {"reason": 5}, "reason: has the wrong type"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_not_published(
    client: Client, kafka: MemoryKafka, request_id: Any, verdict: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.feedback(request_id, verdict, **fields)
    assert message in str(caught.value)
    assert kafka.thumbs == []


def test_a_client_without_a_tenant_has_to_name_one(kafka: MemoryKafka, config: Config) -> None:
    with Client(config=config) as client:
        with pytest.raises(InvalidRequest, match="tenant: is absent; name it for the client or for the feedback"):
            client.feedback("r1", "up")
        client.feedback("r1", "up", tenant="acme")
    assert [each.tenant for each in given(kafka)] == ["acme"]


def test_feedback_that_does_not_reach_the_brokers_is_told_by_flush(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    client.feedback("r1", "down")
    with pytest.raises(BrokerUnavailable, match="rate again with the same request_id") as caught:
        client.flush()
    assert caught.value.request_ids == ("r1",)


async def test_the_asyncio_client_gives_feedback_too(kafka: MemoryKafka, config: Config) -> None:
    async with AsyncClient("acme", config=config) as client:
        await client.feedback("r1", "up", user="ada")
        with pytest.raises(InvalidRequest, match="verdict"):
            await client.feedback("r1", "sideways")
    assert [(each.verdict, each.user) for each in given(kafka)] == [(Verdict.UP, "ada")]
    with pytest.raises(ClientClosed):
        await client.feedback("r1", "up")
