"""Invalidating from a service, on a broker in memory: what is published, what is waited for, and what is refused."""

import time
from functools import partial
from typing import Any

import pytest
from forebay_client import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    InvalidationPending,
    InvalidRequest,
)
from forebay_schemas.config import Config
from forebay_schemas.invalidation import Invalidation
from forebay_schemas.records import Control, Event

from tests.builders import NOW_MS
from tests.producers.doubles import MemoryKafka, applied

KEY = "0123456789abcdef" * 2


def test_an_invalidation_returns_when_the_job_says_that_it_holds(client: Client, kafka: MemoryKafka) -> None:
    def acknowledge(command: Control) -> list[Event]:
        others = [Event(event="review", source="worker", happened_ms=NOW_MS), *applied(command, id="another's")]
        return [*others, *applied(command)]

    kafka.acknowledge = acknowledge
    done = client.invalidate(source="pricing", issued_by="ada")
    (command,) = kafka.commands
    assert (command.command, command.issued_by) == ("invalidate", "ada")
    assert command.arguments == {"source": "pricing", "tenant": "acme", "id": done.command_id}
    assert (done.outcome, done.happened_ms) == ("applied", NOW_MS)
    (inbox,) = kafka.inboxes
    # By this key the acknowledgement lies on the partition that is read.
    assert (inbox.topic, inbox.reply_key, inbox.closed) == ("llm.events", done.command_id, True)


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"source": "pricing"}, {"source": "pricing", "tenant": "acme"}),
        ({"source": "pricing", "tenant": "globex"}, {"source": "pricing", "tenant": "globex"}),
        ({"tenant": "acme", "model": None}, {"tenant": "acme"}),
        ({"prompt_version": "v7"}, {"prompt_version": "v7", "tenant": "acme"}),
        ({"before_ms": NOW_MS, "category": "shop"}, {"before_ms": str(NOW_MS), "category": "shop", "tenant": "acme"}),
        ({"key": KEY}, {"key": KEY}),
    ],
    ids=str,
)
def test_a_client_invalidates_for_its_tenant(
    client: Client, kafka: MemoryKafka, fields: dict[str, Any], arguments: dict[str, str]
) -> None:
    command_id = client.publish_invalidation(**fields)
    (command,) = kafka.commands
    assert command.arguments == {**arguments, "id": command_id}
    assert Invalidation.of({**arguments}).arguments() == arguments


def test_a_client_without_a_tenant_invalidates_for_all(kafka: MemoryKafka, config: Config) -> None:
    with Client(config=config) as client:
        client.publish_invalidation(model="llama-3.1-8b")
    assert kafka.commands[0].arguments.keys() == {"model", "id"}


def test_an_age_is_told_as_a_time(client: Client, kafka: MemoryKafka) -> None:
    began_ms = int(time.time() * 1000)
    client.publish_invalidation(older_than_s=7_200)
    before_ms = int(kafka.commands[0].arguments["before_ms"])
    assert 0 <= before_ms - (began_ms - 7_200_000) < 10_000


def test_equal_invalidations_share_a_key_and_others_do_not(client: Client, kafka: MemoryKafka) -> None:
    for source in ("pricing", "pricing", "stock"):
        client.publish_invalidation(source=source)
    first, second, other = (command.key for command in kafka.commands)
    assert first == second != other


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({}, "filters", "are absent"),
        ({"source": None}, "filters", "are absent"),
        ({"sources": "pricing"}, "sources", "is nothing to invalidate by"),
        ({"source": ""}, "source", "is empty"),
        ({"source": 7}, "source", "has the wrong type"),
        ({"source": "pricing", "model": "llama"}, "model", "cannot narrow source"),
        ({"key": KEY, "source": "pricing"}, "key", "names one answer"),
        ({"key": "short"}, "key", "is 'short'"),
        ({"older_than_s": -1}, "older_than_s", "is -1"),
        ({"older_than_s": "2h"}, "older_than_s", "is '2h'"),
        ({"older_than_s": 1, "before_ms": 1}, "older_than_s", "says the same as before_ms"),
        ({"before_ms": 99_999_999_999_999}, "before_ms", "in the future"),
    ],
    ids=str,
)
def test_what_is_not_clear_is_refused_before_it_is_published(
    client: Client, kafka: MemoryKafka, fields: dict[str, Any], field: str, problem: str
) -> None:
    for invalidate in (client.invalidate, client.publish_invalidation):
        with pytest.raises(InvalidRequest, match=problem) as caught:
            invalidate(**fields)
        assert caught.value.field == field
    assert kafka.controls == []


def test_what_is_not_acknowledged_in_time_is_said_to_be_queued(client: Client, kafka: MemoryKafka) -> None:
    with pytest.raises(InvalidationPending, match=r"queued.*will be applied") as caught:
        client.invalidate(source="pricing", timeout_s=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert kafka.commands[0].arguments["id"] == caught.value.command_id
    assert kafka.inboxes[0].closed


def test_a_command_that_the_brokers_do_not_take_is_told_at_once(client: Client, kafka: MemoryKafka) -> None:
    kafka.delivery = "no leader"
    with pytest.raises(BrokerUnavailable, match="no leader"):
        client.invalidate(source="pricing")
    client.publish_invalidation(source="pricing")
    with pytest.raises(BrokerUnavailable):
        client.flush()


def test_without_brokers_nothing_is_published(client: Client, kafka: MemoryKafka) -> None:
    kafka.reachable = False
    with pytest.raises(BrokerUnavailable):
        client.invalidate(source="pricing")
    assert kafka.controls == []


def test_the_jobs_refusal_is_an_error(client: Client, kafka: MemoryKafka) -> None:
    kafka.acknowledge = partial(applied, outcome="refused", problem="source: is too new")
    with pytest.raises(InvalidRequest, match="source: is too new"):
        client.invalidate(source="pricing")


async def test_a_coroutine_waits_too(kafka: MemoryKafka, config: Config) -> None:
    kafka.acknowledge = partial(applied, outcome="unknown")
    async with AsyncClient("acme", config=config) as client:
        assert (await client.invalidate(source="pricing")).outcome == "unknown"
        await client.publish_invalidation(source="pricing")
    assert len(kafka.commands) == 2
