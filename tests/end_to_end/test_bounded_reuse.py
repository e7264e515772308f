"""Reuse within a bound on a stack of its own: labelled questions, feedback, and parts killed in the middle."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from forebay_client import Client, Reply
from forebay_jobs.caches.hits import HitStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.messages import asker_name
from forebay_jobs.reuse.learned import updates
from forebay_jobs.reuse.memory import KEEP_EVERY_MS
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import load_config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus
from forebay_schemas.tiers import ModelConfig
from prometheus_client import CollectorRegistry

from ..provider import serving
from ..waiting import eventually
from .conftest import SETTINGS, RunningStack, stack_up

COUNT = 1_500
DELTA = 0.02
MOST_WRONG = COUNT * DELTA + 1.96 * (COUNT * DELTA) ** 0.5
"""What a bound on the mean allows within chance."""
TENANT = "acme"
VERBS = ("return", "repair", "clean", "insure", "rent", "paint", "store", "register")
THINGS = ("pump", "boat", "lamp", "bicycle", "tent", "ladder", "stove", "drill", "carpet", "mirror", "clock", "saw")
WORDINGS = (
    "How do I {verb} a {thing}?",
    "How can I {verb} the {thing}?",
    "how to {verb} a {thing}",
    "What do I do to {verb} my {thing}?",
    "Please tell me how I {verb} a {thing}.",
)
GREETINGS = ("", "Thanks!", "Hello.", "Urgent.")


@dataclass(frozen=True)
class Asked:
    """A question, and what it is about: questions about the same have one right answer."""

    request_id: str
    words: str
    about: str


def stream(seed: int) -> list[Asked]:
    dice = random.Random(seed)
    asked = []
    for number in range(COUNT):
        verb, thing = dice.choice(VERBS), dice.choice(THINGS)
        words = dice.choice(WORDINGS).format(verb=verb, thing=thing)
        # Few are equal word for word, so that the exact cache does not answer what is to be decided here.
        asked.append(
            Asked(f"q-{number}", f"{words} {dice.choice(('', 'Thanks!', 'Hello.', 'Urgent.'))}", f"{verb} {thing}")
        )
    return asked


def says(question: str, model: str) -> str:
    """The right answer, by what a question is about."""
    return f"All about this: {' '.join(next(word for word in words if word in question) for words in (VERBS, THINGS))}"


@pytest.fixture
def bounded() -> Iterator[RunningStack]:
    """A stack whose one model knows the right answers, and whose judge goes by their words."""
    with serving(says) as url:
        price = {"input_per_1k": 0.001, "output_per_1k": 0.002}
        provider = ModelConfig.model_validate(
            {"backend": "openai", "endpoint": {"url": url, "concurrency": 16}, "price": price}
        )
        config = load_config(SETTINGS)
        tiers = {
            name: tier.model_copy(update={"model": "provider", "priced_as": None})
            for name, tier in config.tiers.items()
        }
        faq = CategoryConfig.model_validate({"delta": DELTA, "judge": {"by": "text"}})
        changes = {"models": {"provider": provider}, "tiers": tiers, "categories": {"faq": faq}}
        with stack_up(config.model_copy(update=changes)) as running:
            yield running


class Player:
    """Asks the stream, some at a time, and complains of wrong answers from the cache as it goes."""

    def __init__(self, running: RunningStack, asked: list[Asked]) -> None:
        self._running = running
        self._asked = {one.request_id: one for one in asked}
        self._room = threading.Semaphore(16)
        self.replies: dict[str, list[Reply]] = {one.request_id: [] for one in asked}
        self.came: list[str] = []
        """The requests in the order in which they were answered."""
        self.complained: list[str] = []

    def play(self) -> None:
        with self._running.client(tenant=TENANT) as client:
            for one in self._asked.values():
                assert self._room.acquire(timeout=120)
                client.publish(one.words, on_reply=self._take, request_id=one.request_id, category="faq")
                self._complain(client)
                threading.Event().wait(0.03)  # a steady load, so that requests are under way when parts die
            for _ in range(16):
                assert self._room.acquire(timeout=120), "some were not answered"
            self._complain(client)

    @property
    def hits(self) -> list[str]:
        """The requests that were given another question's answer, first answered first."""
        return [name for name in [*self.came] if self.replies[name][0].cache_status is CacheStatus.SEMANTIC]

    @property
    def wrong(self) -> list[str]:
        return [name for name in self.hits if not self.replies[name][0].text.endswith(self._asked[name].about)]

    def _complain(self, client: Client) -> None:
        """About what is wrong, and about every tenth hit that is not: people do."""
        for name in dict.fromkeys([*self.wrong, *self.hits[::10]]):
            if name not in self.complained:
                client.feedback(name, "down", tenant=TENANT)
                self.complained.append(name)

    def _take(self, reply: Reply) -> None:
        self.replies[reply.request_id].append(reply)
        self.came.append(reply.request_id)
        self._room.release()


def test_the_bound_holds_on_the_whole_stack_and_nothing_learned_is_lost(bounded: RunningStack) -> None:
    player = Player(bounded, stream(seed=5))
    redis = RedisStore(bounded.config, JobMetrics(CollectorRegistry()))
    playing = threading.Thread(target=player.play)
    playing.start()
    eventually(lambda: len(player.came) >= COUNT // 3, "a third is answered", timeout_s=240)
    kept = _learned(redis)
    under_way = time.monotonic() + 1.5 * KEEP_EVERY_MS / 1000
    eventually(lambda: len(player.came) >= COUNT // 2 and time.monotonic() > under_way, "half is", timeout_s=240)
    # Together with Redis, which has nothing on disk.
    for part in ("taskmanager", "redis"):
        pid = bounded.stack.pid(part)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    answered = len(player.came)
    eventually(lambda: _learned(redis) >= kept, "what was learned is back in Redis")
    # A request updates what is learned ten times at most, so that cannot have been learned anew.
    assert kept > 10 * (len(player.came) - answered)

    playing.join(240)
    assert not playing.is_alive()
    assert {len(came) for came in player.replies.values()} == {1}
    assert [came[0].error for came in player.replies.values() if came[0].error] == []
    assert len(player.wrong) <= MOST_WRONG
    assert len(player.hits) > COUNT * 0.05

    since = set(player.came[answered + 16 :])  # what hits were given before went with Redis
    store = HitStore(bounded.config, redis)
    for request_id in since.intersection(player.complained):
        eventually(lambda name=request_id: _complaint(store, name) == "user", f"the complaint about {request_id}")


def _learned(store: RedisStore) -> int:
    """How much the processes have learned together, in updates."""

    def read(client: Any) -> int:
        return sum(updates(client.get(key)) for key in client.scan_iter("*:learned:*"))

    return store.call(read, 0)


def _complaint(store: HitStore, request_id: str) -> str | None:
    known = store.find(asker_name(TENANT, request_id))
    return known.complaint if known else None
