"""A service that calls a provider directly brings Forebay in: mirrored, then by share, falling back at once."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from forebay_client import (
    AsyncClient,
    AsyncMigration,
    Client,
    ConfigError,
    Migration,
    Mirrored,
    Source,
    core,
    migration,
)
from forebay_schemas.config import Config
from forebay_schemas.records import Reply, ReplyError, Request

from tests.builders import make_reply, make_request
from tests.producers.doubles import MemoryKafka, echo, silence

USERS = [f"user-{number}" for number in range(1_000)]


def direct(question: Any, **fields: Any) -> str:
    return f"direct: {question}"


def migrating(client: Client, stage: str | Callable[[], str], **settings: Any) -> Migration:
    return Migration(client, direct, stage, **settings)


def failing(request: Request) -> list[Reply]:
    error = ReplyError(code="engine_failed", message="no luck", retryable=True)
    return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]


@pytest.fixture
def clock_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [1_000.0]
    monkeypatch.setattr(migration.time, "monotonic", lambda: now_s[0])
    return now_s


# Who goes where


def test_before_it_begins_forebay_hears_of_nothing(client: Client, kafka: MemoryKafka) -> None:
    with migrating(client, "off") as service:
        answer = service.ask("Hello?", user="ada")
    assert (answer.text, answer.source) == ("direct: Hello?", Source.DIRECT)
    assert kafka.sent == []


def test_at_the_end_all_go_through_forebay(client: Client) -> None:
    with migrating(client, "100") as service:
        answer = service.ask("Hello?", user="ada", category="support")
    assert (answer.text, answer.source) == ("Hello?", Source.FOREBAY)
    assert answer.reply is not None


def test_each_stage_has_its_share_of_the_users_and_all_of_the_one_before(client: Client, kafka: MemoryKafka) -> None:
    stage = ["10"]
    through: dict[str, set[str]] = {}
    with migrating(client, lambda: stage[0]) as service:
        for stage[0] in ("10", "50", "90"):
            answers = {user: service.ask("Hello?", user=user) for user in USERS}
            through[stage[0]] = {user for user, answer in answers.items() if answer.source is Source.FOREBAY}
    assert through["10"] < through["50"] < through["90"]
    assert [len(through[stage]) / len(USERS) for stage in through] == pytest.approx([0.1, 0.5, 0.9], abs=0.04)
    assert {sent.request.user for sent in kafka.sent} == through["90"]


def test_who_names_no_user_stays_together_by_tenant_and_a_request_names_its_own(client: Client) -> None:
    with migrating(client, "50") as service:
        by_tenant = {tenant: {service.ask("Hello?", tenant=tenant).source for _ in range(3)} for tenant in USERS[:40]}
        assert all(len(sources) == 1 for sources in by_tenant.values())
        assert len(set(map(frozenset, by_tenant.values()))) == 2
        for user in USERS[:20]:
            finished = make_request(tenant="acme", user=user)
            assert service.ask(finished).source is service.ask("Hello?", user=user).source


def test_another_migration_begins_with_others(client: Client) -> None:
    def first(name: str) -> set[str]:
        with migrating(client, "10", name=name) as service:
            return {user for user in USERS if service.ask("Hello?", user=user).source is Source.FOREBAY}

    assert first("support") != first("search")


@pytest.mark.parametrize("stage", ["20", "Shadow", ""])
def test_a_stage_that_is_none_is_refused_with_those_that_are(client: Client, stage: str) -> None:
    with pytest.raises(ConfigError, match="use one of off, shadow, 10, 50, 90, 100"):
        migrating(client, stage)


def test_while_the_stage_is_not_known_all_go_direct_and_it_is_said_once(
    client: Client, kafka: MemoryKafka, caplog: pytest.LogCaptureFixture
) -> None:
    flags = {"stage": "fifty"}
    with migrating(client, lambda: flags["stage"]) as service:
        assert {service.ask("Hello?").source for _ in range(3)} == {Source.DIRECT}
        del flags["stage"]
        assert service.ask("Hello?").source is Source.DIRECT
        assert len(caplog.records) == 1
        assert "'fifty' is none; use one of" in caplog.text
        assert kafka.sent == []
        flags["stage"] = "100"
        assert service.ask("Hello?").source is Source.FOREBAY


# In the shadow


def test_a_mirrored_question_is_asked_of_both_and_the_user_sees_the_direct_answer(client: Client) -> None:
    mirrored: list[Mirrored] = []
    with migrating(client, "shadow", on_mirrored=mirrored.append) as service:
        answer = service.ask("Hello?", user="ada")
    assert (answer.text, answer.source, answer.reply) == ("direct: Hello?", Source.DIRECT, None)
    (both,) = mirrored
    assert (both.question, both.direct, both.reply and both.reply.text) == ("Hello?", "direct: Hello?", "Hello?")


def test_a_mirror_that_is_slow_or_fails_is_not_noticed(client: Client, kafka: MemoryKafka) -> None:
    """The direct answers are there while the mirror still waits, and one that cannot be mirrored is not."""
    answered = threading.Event()

    def slow(request: Request) -> list[Reply]:
        answered.wait(30)
        return failing(request)

    kafka.answer = slow
    mirrored: list[Mirrored] = []
    with migrating(client, "shadow", on_mirrored=mirrored.append) as service:
        assert {service.ask(f"{number}?").source for number in range(100)} == {Source.DIRECT}
        answered.set()
    assert 1 <= len(mirrored) <= migration._MOST_MIRRORED
    assert all(both.reply is None and "no luck" in str(both.problem) for both in mirrored)


def test_what_the_direct_call_raises_is_the_services_and_the_mirror_is_told(client: Client) -> None:
    def broken(question: Any, **fields: Any) -> str:
        raise ConnectionError("the provider is away")

    mirrored: list[Mirrored] = []
    with Migration(client, broken, "shadow", on_mirrored=mirrored.append) as service, pytest.raises(ConnectionError):
        service.ask("Hello?")
    assert [both.direct for both in mirrored] == [None]


def test_what_keeps_the_mirror_from_being_asked_keeps_nobody_from_the_direct_answer(
    client: Client, kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    mirrored: list[Mirrored] = []
    service = migrating(client, "shadow", on_mirrored=mirrored.append)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        answers = {service.ask("Hello?").text for _ in range(migration._MOST_MIRRORED)}
    assert answers == {"direct: Hello?"}
    service.ask("Hello?")  # and no place is lost
    service.close()
    assert service.ask("Hello?").text == "direct: Hello?"
    assert len(mirrored) == len(kafka.sent) == 1


# Falling back


def test_when_forebay_fails_the_direct_call_answers_at_once(client: Client, kafka: MemoryKafka) -> None:
    kafka.answer = failing
    with migrating(client, "100") as service:
        answer = service.ask("Hello?")
    assert (answer.text, answer.source) == ("direct: Hello?", Source.FALLBACK)
    assert "no luck" in str(answer.problem)


def test_when_forebay_is_late_the_direct_call_answers_and_the_deadline_says_so(
    client: Client, kafka: MemoryKafka
) -> None:
    kafka.answer = silence
    with migrating(client, "100") as service:
        answer = service.ask("Hello?", within_s=0.1)
    assert answer.source is Source.FALLBACK
    sent = kafka.sent[0]
    assert sent.headers.deadline_ms is not None
    assert sent.headers.deadline_ms - sent.request.created_ms == 100


def test_when_the_brokers_are_away_the_direct_call_answers(client: Client, kafka: MemoryKafka) -> None:
    kafka.reachable = False
    with migrating(client, "100") as service:
        assert service.ask("Hello?").source is Source.FALLBACK


@pytest.mark.parametrize("fields", [{}, {"user": object()}])
def test_after_a_fork_and_with_fields_that_are_none_the_direct_call_answers(
    client: Client, monkeypatch: pytest.MonkeyPatch, fields: Any
) -> None:
    with migrating(client, "100") as service, monkeypatch.context() as patch:
        if not fields:
            patch.setattr(core.os, "getpid", lambda: -1)
        answer = service.ask("Hello?", **fields)
    assert (answer.text, answer.source) == ("direct: Hello?", Source.FALLBACK)
    assert ("user" if fields else "forked") in str(answer.problem)


def test_one_that_keeps_failing_is_left_alone_for_a_while(
    client: Client, kafka: MemoryKafka, clock_s: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    kafka.answer = failing
    with migrating(client, "100") as service:
        answers = [service.ask("Hello?") for _ in range(20)]
        assert {answer.source for answer in answers} == {Source.FALLBACK}
        assert all("no luck" in str(answer.problem) for answer in answers)
        assert caplog.text.count("left alone for 10 s") == 1
        assert len(kafka.sent) == migration.FAILURES_TO_LEAVE
        kafka.answer = echo
        clock_s[0] += migration.LEFT_ALONE_S + 1
        assert service.ask("Hello?").source is Source.FOREBAY


def test_requests_that_are_refused_do_not_keep_others_from_forebay(client: Client, kafka: MemoryKafka) -> None:
    def refusing(request: Request) -> list[Reply]:
        error = ReplyError(code="context_length_exceeded", message="too long", retryable=False)
        return [make_reply(request_id=request.request_id, tenant=request.tenant, text="", error=error)]

    with migrating(client, "100") as service:
        for _ in range(migration.FAILURES_TO_LEAVE):
            assert service.ask("Hello?", temperature=-1.0).source is Source.FALLBACK
        kafka.answer = refusing
        for _ in range(migration.FAILURES_TO_LEAVE):
            assert service.ask("Hello?").source is Source.FALLBACK
        kafka.answer = echo
        assert service.ask("Hello?").source is Source.FOREBAY


# On asyncio


def test_coroutines_are_mirrored_answered_and_fallen_back_alike(kafka: MemoryKafka, config: Config) -> None:
    mirrored: list[Mirrored] = []

    async def call(question: Any, **fields: Any) -> str:
        return direct(question)

    async def through(stage: str) -> tuple[str, Source]:
        async with (
            AsyncClient("acme", config=config) as client,
            AsyncMigration(client, call, stage, on_mirrored=mirrored.append) as service,
        ):
            answer = await service.ask("Hello?", user="ada", within_s=5)
            return answer.text, answer.source

    assert asyncio.run(through("off")) == ("direct: Hello?", Source.DIRECT)
    assert kafka.sent == []
    assert asyncio.run(through("shadow")) == ("direct: Hello?", Source.DIRECT)
    assert [(both.direct, both.reply and both.reply.text) for both in mirrored] == [("direct: Hello?", "Hello?")]
    assert asyncio.run(through("100")) == ("Hello?", Source.FOREBAY)
    kafka.answer = failing
    assert asyncio.run(through("100")) == ("direct: Hello?", Source.FALLBACK)


def test_while_the_queue_is_full_the_direct_call_answers_in_time_for_all(
    client: Client, kafka: MemoryKafka, config: Config
) -> None:
    async def call(question: Any, **fields: Any) -> str:
        return direct(question)

    async def together() -> set[Source]:
        async with AsyncClient("acme", config=config) as client, AsyncMigration(client, call, "100") as service:
            publishing = asyncio.create_task(client.publish("Hello?"))  # which has time, and waits for room before them
            await asyncio.sleep(0)
            asking = (service.ask("Hello?", within_s=0.2) for _ in range(20))
            sources = {answer.source for answer in await asyncio.gather(*asking)}
            kafka.full = False
            await publishing
            return sources

    kafka.full = True
    began_s = time.monotonic()
    with migrating(client, "100") as service:
        assert service.ask("Hello?", within_s=0.2).source is Source.FALLBACK
    assert asyncio.run(together()) == {Source.FALLBACK}
    assert time.monotonic() - began_s < 2


def test_a_mirror_that_is_cancelled_is_not_noticed(
    kafka: MemoryKafka, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors: list[asyncio.Task[Any] | None] = []

    async def at_once(self: AsyncClient, question: Any, **fields: Any) -> Reply:
        mirrors.append(asyncio.current_task())
        return make_reply()

    async def call(question: Any, **fields: Any) -> str:
        while not mirrors:
            await asyncio.sleep(0)
        (mirror,) = mirrors  # which has its answer, and waits for this one
        assert mirror is not None
        mirror.cancel()
        await asyncio.wait([mirror])
        return direct(question)

    async def through() -> str:
        async with (
            AsyncClient("acme", config=config) as client,
            AsyncMigration(client, call, "shadow", on_mirrored=print) as service,
        ):
            return (await service.ask("Hello?")).text

    monkeypatch.setattr(AsyncClient, "ask", at_once)
    assert asyncio.run(through()) == "direct: Hello?"


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_closing_waits_no_longer_than_it_is_told_to(client: Client, config: Config, kind: str) -> None:
    ended = threading.Event()

    async def through() -> None:
        async def call(question: Any, **fields: Any) -> str:
            await asyncio.sleep(60)
            return direct(question)

        async with AsyncClient("acme", config=config) as client:
            service = AsyncMigration(client, call, "shadow", on_mirrored=print)
            asking = asyncio.create_task(service.ask("Hello?"))
            await asyncio.sleep(0)
            await service.close(timeout_s=0.1)
            asking.cancel()

    began_s = time.monotonic()
    if kind == "coroutines":
        asyncio.run(through())
    else:
        service = migrating(client, "shadow", on_mirrored=lambda _: ended.wait(60))
        service.ask("Hello?")
        service.close(timeout_s=0.1)
    assert time.monotonic() - began_s < 5
    ended.set()


def test_who_goes_first_is_the_same_for_both(client: Client, config: Config) -> None:
    async def call(question: Any, **fields: Any) -> str:
        return direct(question)

    async def through() -> list[Source]:
        async with AsyncClient("acme", config=config) as asynchronous, AsyncMigration(asynchronous, call, "50") as one:
            return [(await one.ask("Hello?", user=user)).source for user in USERS[:40]]

    with migrating(client, "50") as other:
        assert asyncio.run(through()) == [other.ask("Hello?", user=user).source for user in USERS[:40]]
