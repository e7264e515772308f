"""The policies of a process: which holds where, and that processes learn together through Redis."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.reuse.adaptive import AdaptiveReuse
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.fixed import FixedReuse
from forebay_jobs.reuse.memory import KEEP_EVERY_MS, LearnedMemory
from forebay_jobs.reuse.namespaces import KEPT_S, Namespaces
from forebay_schemas.categories import CategoryConfig

from tests.jobs.doubles import MemoryState, metrics
from tests.redis_server import RedisServer
from tests.waiting import eventually

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
        self.namespaces.meet([(owner, category)])
        return self.namespaces.policy(owner, category)

    def sync(self) -> None:
        self.namespaces.sync()

    def learn(self, labels: int = 1) -> None:
        """Labels that move the threshold, and what comes of them is shared."""
        for _ in range(labels):
            self.policy().learn(BESIDE, right=False)
        self.sync()


def tend(memory: LearnedMemory, state: Mapping[str, MemoryState], now_ms: int) -> None:
    for bucket, of_bucket in state.items():
        memory.tend(of_bucket, bucket, now_ms)


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

    def told() -> bool:
        one.sync()
        return Process(redis_server).policy().threshold == one.policy().threshold

    eventually(told, "what it learned is in Redis")  # which it leaves alone for some milliseconds more


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


def test_categories_without_settings_are_one_namespace(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    pooled = one.policy("default")
    assert all(one.policy(f"endpoint-{number}") is pooled for number in range(3))
    assert one.policy("endpoint-1", owner="tenant:rival") is not pooled
    assert one.policy("faq") is not pooled


def test_no_decision_waits_for_redis(redis_server: RedisServer) -> None:
    """What reads Redis is ``meet``, which holds nobody up."""
    one = Process(redis_server)
    redis_server.freeze()
    started = time.monotonic()
    with one.namespaces.lock:
        for number in range(2_100):  # more than are held
            one.namespaces.policy(f"tenant:{number}", "faq").learn(BESIDE, right=False)
    assert time.monotonic() - started < 5
    redis_server.thaw()
    one.sync()
    assert redis_server.client().dbsize() == 2_100


def test_who_knows_little_does_not_replace_what_redis_lost(redis_server: RedisServer) -> None:
    """After a flush a process that has just begun may be the first to come back."""
    old, new = Process(redis_server), Process(redis_server)
    old.learn(labels=3)
    redis_server.client().flushall()
    new.learn()
    old.learn()
    assert Process(redis_server).policy().threshold == old.policy().threshold > new.policy().threshold
    new.policy()
    new.sync()
    assert new.policy().threshold == old.policy().threshold


@pytest.mark.parametrize("met_before", [False, True])
def test_what_was_learned_outlives_a_redis_and_a_job_that_end_together(
    redis_server: RedisServer, met_before: bool
) -> None:
    """A desk's state, as a checkpoint keeps it, hands it to the next process."""
    buckets, state = ("0.0", "64.0"), {bucket: MemoryState() for bucket in ("0.0", "64.0")}
    old = Process(redis_server)
    memory = LearnedMemory(old.namespaces, buckets)
    tend(memory, state, 0)
    old.learn(labels=3)
    tend(memory, state, KEEP_EVERY_MS)
    assert sum(len(one.kept) for one in state.values()) == 1
    redis_server.client().flushall()
    new = Process(redis_server)
    if met_before:  # by a request in another bucket
        new.learn()
    tend(LearnedMemory(new.namespaces, buckets), state, 2 * KEEP_EVERY_MS)
    new.learn()
    assert new.policy().threshold == Process(redis_server).policy().threshold == pytest.approx(0.98 + 4 * 0.0019)


def test_what_nobody_used_for_long_leaves_the_checkpoints(redis_server: RedisServer) -> None:
    state = MemoryState()
    state.put_learned("of old", 0, b"")
    LearnedMemory(Process(redis_server).namespaces, ("0.0",)).tend(state, "0.0", (KEPT_S + 1) * 1_000)
    assert state.empty


def test_what_nobody_uses_costs_nothing(redis_server: RedisServer) -> None:
    one = Process(redis_server)
    one.policy().learn(BESIDE, right=False)
    one.sync()
    redis_server.client().flushall()
    one.sync()
    assert redis_server.client().dbsize() == 0
