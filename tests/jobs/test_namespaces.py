"""The policies of a process: which holds where, and that processes learn together through Redis."""

from typing import Any

import pytest
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.reuse.adaptive import AdaptiveReuse
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.fixed import FixedReuse
from forebay_jobs.reuse.namespaces import Namespaces
from forebay_schemas.sections import CategoryConfig

from tests.jobs.doubles import metrics
from tests.redis_server import RedisServer

CATEGORIES = {
    "default": CategoryConfig(),
    "faq": CategoryConfig(policy="adaptive"),
    "plain": CategoryConfig(policy="fixed"),
}
BESIDE = Decision(verdict=Verdict.TOO_FAR, policy="adaptive", similarity=0.979)


class Process:
    """The policies of one process."""

    def __init__(self, server: RedisServer, version: str = "v1", **categories: CategoryConfig) -> None:
        config = server.config(retry_after_ms=10).model_copy(update={"categories": CATEGORIES | categories})
        self.namespaces = Namespaces(config, RedisStore(config, metrics()), version)

    def policy(self, category: str = "faq", owner: str = "tenant:acme") -> Any:
        return self.namespaces.policy(owner, category)

    def sync(self) -> None:
        self.namespaces.sync()


@pytest.mark.parametrize(
    ("category", "kind"),
    [("plain", FixedReuse), ("faq", AdaptiveReuse), ("default", BoundedReuse), ("any other", BoundedReuse)],
)
def test_the_category_names_its_policy(redis_server: RedisServer, category: str, kind: type) -> None:
    assert type(Process(redis_server).policy(category)) is kind


def test_processes_learn_together(redis_server: RedisServer) -> None:
    one, other = Process(redis_server), Process(redis_server)
    assert one.policy().threshold == other.policy().threshold == 0.98
    one.policy().learn(BESIDE, right=False)
    other.policy().learn(BESIDE, right=False)
    one.sync()
    other.sync()
    one.policy()
    one.sync()
    moved = one.policy().threshold
    assert moved == pytest.approx(0.98 + 2 * 0.0019)
    assert other.policy().threshold == Process(redis_server).policy().threshold == moved


@pytest.mark.parametrize(
    ("version", "category", "owner"),
    [("v2", "faq", "tenant:acme"), ("v1", "faq", "tenant:rival"), ("v1", "faq2", "tenant:acme")],
)
def test_nothing_is_learned_across_namespaces_and_embedding_models(
    redis_server: RedisServer, version: str, category: str, owner: str
) -> None:
    one = Process(redis_server)
    one.policy().learn(BESIDE, right=False)
    one.sync()
    other = Process(redis_server, version, faq2=CategoryConfig(policy="adaptive"))
    assert other.policy(category, owner).threshold == 0.98


def test_what_is_peeked_at_is_as_the_stores_know_it_and_changes_nothing(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    assert one.namespaces.peek("tenant:acme", "faq") is not one.policy()
    one.policy().learn(BESIDE, right=False)
    one.sync()
    keys = sorted(redis_server.client().keys())
    peeked: Any = Process(redis_server).namespaces.peek("tenant:acme", "faq")
    assert peeked.threshold == one.policy().threshold
    Process(redis_server).namespaces.peek("tenant:nobody", "faq")
    assert sorted(redis_server.client().keys()) == keys


def test_a_state_that_cannot_be_read_is_replaced(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    one.policy().learn(BESIDE, right=False)
    one.sync()
    client = redis_server.client()
    for key in client.scan_iter():
        client.set(key, b"damaged")
    assert Process(redis_server).policy().threshold == 0.98
    one.policy()
    one.sync()
    assert Process(redis_server).policy().threshold == one.policy().threshold > 0.98


def test_while_redis_is_away_a_process_learns_alone_and_tells_later(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    redis_server.kill()
    one.policy().learn(BESIDE, right=False)
    one.sync()
    assert one.policy().threshold > 0.98
    redis_server.start()
    one.sync()
    assert Process(redis_server).policy().threshold == one.policy().threshold


def test_what_is_decided_while_processes_meet_is_not_lost(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    policy = one.policy()
    policy.learn(BESIDE, right=False)
    taken = policy.take()
    policy.learn(BESIDE, right=False)
    policy.settle(None)  # Redis was away
    assert policy.threshold == pytest.approx(0.98 + 2 * 0.0019)
    one.sync()
    assert Process(redis_server).policy().threshold == policy.threshold
    assert taken is not None


def test_what_nobody_uses_costs_nothing(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    one.policy().learn(BESIDE, right=False)
    one.sync()
    redis_server.client().flushall()
    one.sync()
    assert redis_server.client().dbsize() == 0
