"""What Redis keeps at the gateways of a tenant or a user is removed, and nobody else's."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from forebay_gateway.batches.files import Files
from forebay_gateway.erasing import GatewayEraser
from forebay_gateway.store import connect
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Reply, Request
from openai import OpenAI

from tests.gateway.test_batches import ended, keyed, log, nothing_yet, questions, submit
from tests.gateway.test_chat import HELLO
from tests.gateway.test_files import upload
from tests.producers.batch_doubles import MemoryLog
from tests.producers.doubles import MemoryKafka
from tests.producers.doubles import echo as answered
from tests.redis_server import RedisServer
from tests.waiting import eventually

__all__ = ["log"]

TENANT = "ac*me[?]:\\"
"""With what means something in Redis's patterns, or in our keys."""
OTHER = f"{TENANT}:2"
"""Whose keys begin as the tenant's do."""


def quiet(_: str) -> None:
    """Nobody watches."""


def named(request: Request) -> list[Reply]:
    """Answers with the question, to the user who asked."""
    return [msgspec.structs.replace(reply, user=request.user) for reply in answered(request)]


def ask(openai: OpenAI, user: str) -> None:
    key = {"Idempotency-Key": f"of {user}"}
    openai.chat.completions.create(model="auto", messages=HELLO, user=user, extra_headers=key)


@pytest.fixture
def callers(log: MemoryLog, kafka: MemoryKafka, counted: Config, tmp_path: Path) -> Iterator[list[OpenAI]]:
    """Of two tenants, each with a batch that has ended, a file that nobody reads, and answers to two users."""
    kafka.answer = named
    with keyed(counted, tmp_path, **{TENANT: {}, OTHER: {}}) as clients:
        for openai in clients:
            assert ended(openai, submit(openai, questions(2))).status == "completed"
            upload(openai, questions(3))
            for user in ("Ada", "Bob"):
                ask(openai, user)
        yield clients


@pytest.fixture
def theirs(callers: list[OpenAI], counted: Config) -> GatewayEraser:
    return GatewayEraser(counted, TENANT, None)


@pytest.fixture
def others(counted: Config) -> GatewayEraser:
    return GatewayEraser(counted, OTHER, None)


OF_EACH = Counter({"batches": 1, "files": 3, "contents of files": 3, "lists": 2, "kept answers": 2})


def test_nothing_is_left_of_a_tenant_that_is_forgotten(
    theirs: GatewayEraser, others: GatewayEraser, redis_server: RedisServer
) -> None:
    assert theirs.count(quiet) == others.count(quiet) == OF_EACH
    assert theirs.erase(quiet) == OF_EACH
    assert theirs.count(quiet) == Counter()
    assert others.erase(quiet) == OF_EACH
    assert redis_server.client().keys("*") == []


async def test_so_is_an_upload_that_broke_off(counted: Config, redis_server: RedisServer) -> None:
    async def breaks_off(size: int) -> bytes:
        if redis_server.client().keys("*"):
            raise ConnectionResetError
        return b"Question 1?"

    store = connect(counted)
    with pytest.raises(ConnectionResetError):
        await Files(store, "llm:gateway", counted.gateway).upload(TENANT, "rows.jsonl", breaks_off, "file-1", None)
    await store.aclose()
    assert GatewayEraser(counted, TENANT, None).erase(quiet) == {"contents of files": 1}
    assert redis_server.client().keys("*") == []


def test_files_of_a_version_that_named_no_tenant_in_their_contents_go_with_them(
    theirs: GatewayEraser, others: GatewayEraser, redis_server: RedisServer
) -> None:
    redis = redis_server.client()
    for key in redis.keys("*:file:*"):
        file = msgspec.msgpack.decode(redis.get(key))
        before, file["contents"] = file["contents"], f"llm:gateway:contents:{file['id']}"
        redis.rename(before, file["contents"])
        redis.set(key, msgspec.msgpack.encode(file))
    assert theirs.erase(quiet) == OF_EACH
    assert len(redis.keys("*:contents:*")) == others.count(quiet)["files"]


def test_answers_that_a_version_kept_under_names_without_tenants_go_too(
    theirs: GatewayEraser, others: GatewayEraser, counted: Config, redis_server: RedisServer
) -> None:
    redis = redis_server.client()
    for number, key in enumerate(sorted(redis.keys("*:repeat:*"))):
        redis.rename(key, f"llm:gateway:repeat:{number:064x}")
    assert GatewayEraser(counted, TENANT, "Ada").erase(quiet) == {"kept answers": 1}
    assert theirs.erase(quiet) == OF_EACH - Counter({"kept answers": 1})
    assert others.count(quiet) == OF_EACH


def test_lists_that_a_full_redis_dropped_are_not_needed(theirs: GatewayEraser, redis_server: RedisServer) -> None:
    redis = redis_server.client()
    redis.delete(*redis.keys("*:files:*"), *redis.keys("*:batches:*"))
    assert theirs.erase(quiet) == OF_EACH - Counter(lists=2)


def test_of_a_user_the_kept_answers_go_and_what_is_the_tenants_stays(
    theirs: GatewayEraser, counted: Config, redis_server: RedisServer
) -> None:
    ada, redis = GatewayEraser(counted, TENANT, "Ada"), redis_server.client()
    assert ada.undivided(quiet) == 4
    assert ada.erase(quiet) == {"kept answers": 1}
    assert ada.count(quiet) == Counter()
    assert theirs.count(quiet) == OF_EACH - Counter({"kept answers": 1})
    left = [redis.get(key) for key in redis.keys("*:repeat:*")]
    assert sorted(value.count(b"Ada") for value in left) == [0, 0, 1], "the other tenant's Ada"


def test_a_batch_that_is_worked_on_is_left_and_nothing_of_it_comes_back(
    callers: list[OpenAI], theirs: GatewayEraser, others: GatewayEraser, log: MemoryLog, redis_server: RedisServer
) -> None:
    log.answer = nothing_yet
    sent = len(log.requests)
    submit(callers[0], questions(2))
    eventually(lambda: len(log.requests) == sent + 2, "it is sent", 20)
    theirs.erase(quiet)
    others.erase(quiet)
    eventually(lambda: not redis_server.client().keys("*"), "nobody has a lease of it", 20)
    log.answer_all()
    assert theirs.count(quiet) == Counter()


def test_while_redis_is_away_nothing_is_said_to_be_forgotten(counted: Config, redis_server: RedisServer) -> None:
    redis_server.kill()
    try:
        with pytest.raises(ForebayError, match=r"redis\.url: Redis does not answer"):
            GatewayEraser(counted, TENANT, None).erase(quiet)
    finally:
        redis_server.start()
