"""What Redis keeps of a tenant or a user is removed, and nobody else's."""

from collections import Counter

import pytest
from forebay_jobs.caches.erasing import Eraser
from forebay_jobs.caches.hits import Hit, HitStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.messages import Cancel, asker_name
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_schemas.canonical import digests
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Request

from tests.builders import NOW_MS, make_request
from tests.jobs.answer_store import Store
from tests.jobs.doubles import metrics
from tests.jobs.test_namespaces import Process
from tests.redis_server import RedisServer

TENANT = "ac*me[?]:\\"
"""With what means something in Redis's patterns, or in our keys."""


USERS = {TENANT: ("Ada", "Bob"), "other": ("Cid", "Dan")}


class Kept:
    """Answers, hits, ids and what was learned, of two tenants with two users each."""

    def __init__(self, server: RedisServer) -> None:
        self.server, self.redis = server, server.client()
        answers, self.store = Store(server), RedisStore(server.config(), metrics())
        hits = HitStore(server.config(), self.store)
        for tenant, users in USERS.items():
            for number, user in enumerate(users):
                request = make_request(f"What asks {user}?", tenant=tenant, user=user, request_id=f"r{number}")
                answers.fill(request, tenant=tenant, user=user, request_id=request.request_id, text=f"to {user}")
                hits.note([_hit(f"h{number}", user, request), _hit(f"e{number}", "eve", request)])
            answers.store.note_cancelled(Cancel(tenant=tenant, request_id="r9", issued_ms=NOW_MS))
            process = Process(server)
            process.policy(owner=f"tenant:{tenant}")
            process.sync()

    def eraser(self, user: str | None = None, tenant: str = TENANT) -> Eraser:
        return Eraser(self.store, tenant, user)

    def texts_with(self, word: str) -> list[bytes]:
        """All keys that hold a text, in their name or anywhere in them."""
        kinds = {b"hash": "hgetall", b"string": "get", b"zset": "zrange"}
        found = []
        for key in self.redis.keys("*"):
            bounds = (0, -1) if self.redis.type(key) == b"zset" else ()
            if word.encode() in key + repr(getattr(self.redis, kinds[self.redis.type(key)])(key, *bounds)).encode():
                found.append(key)
        return found


def _hit(request_id: str, user: str, matched: Request) -> Hit:
    return Hit(
        name=asker_name(matched.tenant, request_id),
        owner=f"tenant:{matched.tenant}",
        category="default",
        digest=digests(matched).exact,
        question=f"How, asks {user}?",
        matched_question=matched.messages[0].content or "",
        decision=Decision(verdict=Verdict.REUSED, policy="fixed", similarity=0.99),
        given_ms=NOW_MS,
        user=user,
        vector=b"\0" * 4,
    )


@pytest.fixture
def kept(redis_server: RedisServer) -> Kept:
    return Kept(redis_server)


def quiet(_: str) -> None:
    """Nobody watches."""


def test_a_user_is_forgotten_also_where_others_were_given_the_answer(kept: Kept) -> None:
    others = kept.eraser("Bob").count(quiet)
    found = kept.eraser("Ada").erase(quiet)
    assert (found["answers"], found["hits"]) == (1, 2)
    assert kept.eraser("Ada").count(quiet) == Counter()
    assert kept.eraser("Bob").count(quiet) == others
    assert kept.texts_with("Ada") == []


def test_nothing_names_a_tenant_that_is_forgotten(kept: Kept) -> None:
    of_other = kept.eraser(tenant="other").count(quiet)
    found = kept.eraser().erase(quiet)
    assert found == kept.eraser(tenant="other").count(quiet)  # as much was kept of both
    assert [kept.texts_with(word) for word in (TENANT[:5], *USERS[TENANT])] == [[], [], []]
    assert kept.eraser(tenant="other").count(quiet) == of_other


def test_a_hit_that_has_ended_is_not_listed_any_more_under_its_tenants_name(kept: Kept) -> None:
    prefix = kept.store.prefix
    for key in kept.redis.keys(f"{prefix}:hit:*"):
        kept.redis.delete(key)  # as Redis does when its time is over
    listed = kept.redis.zcard(f"{prefix}:hits")
    assert kept.eraser().count(quiet)["listed hits"] == kept.eraser().erase(quiet)["listed hits"] == listed / 2
    assert kept.texts_with(TENANT[:5]) == []
    assert kept.redis.zcard(f"{prefix}:hits") == listed / 2


def test_while_redis_is_away_nothing_is_said_to_be_forgotten(kept: Kept) -> None:
    kept.server.kill()
    try:
        with pytest.raises(ForebayError, match="Redis does not answer"):
            kept.eraser().erase(quiet)
    finally:
        kept.server.start()
