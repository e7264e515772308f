"""Answers are invalidated in the middle of traffic, and while Redis is away."""

import functools
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from forebay_client import Client, Reply
from forebay_ops.local.supervision import Supervisor
from forebay_schemas.records import CacheOptions, CachePolicy

from ..waiting import eventually
from .conftest import RunningStack
from .traffic import Inbox

SCOPES = [(tenant, source) for tenant in ("north", "south") for source in ("pricing", "stock")]
STALE = ("north", "pricing")


class Traffic:
    """Equal requests of all scopes again and again, each with an id that tells its scope, and answers that are kept."""

    def __init__(self, client: Client) -> None:
        self.inbox = Inbox()
        self.sent_ms: dict[str, float] = {}
        self._client = client
        self._stop = threading.Event()
        self._questions = {scope: self._answered(*scope) for scope in SCOPES}

    def began_ms(self) -> dict[str, float]:
        """When the generation of each request that led to one began."""
        replies = (reply for reply, *_ in self.inbox.replies.values())
        return {one.request_id: one.completed_ms - one.latency.generation_ms for one in replies if one.hops}

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send, twenty milliseconds apart, until the end of the block; then wait for all replies."""
        sender = threading.Thread(target=self._send)
        sender.start()
        try:
            yield
        finally:
            self._stop.set()
            sender.join()
        eventually(lambda: self.inbox.replies.keys() >= self.sent_ms.keys(), "a reply to each")

    def replies(self, tenant: str, source: str, *, since_ms: float = 0.0) -> list[Reply]:
        """The replies of a scope to what was sent since a time."""
        return [
            reply
            for request_id, (reply, *_) in list(self.inbox.replies.items())
            if request_id.startswith(f"{tenant} {source} ") and self.sent_ms[request_id] >= since_ms
        ]

    def _answered(self, tenant: str, source: str) -> list[str]:
        """Two questions with an answer in the cache: a model of random weights finds no end to some."""

        def ask(question: str, policy: CachePolicy) -> Reply:
            cache = CacheOptions(policy=policy, sources=[source])
            reply = self._client.ask(question, tenant=tenant, cache=cache, timeout_s=60)
            self.inbox.take(reply)
            return reply

        answered: list[str] = []
        for number in itertools.count():
            question = f"How do I clean pump number {number}?"
            reply = ask(question, CachePolicy.REFRESH)
            if reply.finish_reason == "stop" and reply.text.strip():
                again = functools.partial(ask, question, CachePolicy.USE)
                eventually(lambda again=again: again().cache_status == "exact", "the answer to be in the cache")
                answered.append(question)
            if len(answered) == 2:
                break
        return answered

    def _send(self) -> None:
        for number in itertools.count():
            if self._stop.wait(0.02):
                return
            tenant, source = scope = SCOPES[number % len(SCOPES)]
            request_id = f"{tenant} {source} {number}"
            self.sent_ms[request_id] = time.time() * 1000
            self._client.publish(
                self._questions[scope][number // len(SCOPES) % 2],
                request_id=request_id,
                tenant=tenant,
                cache=CacheOptions(sources=[source]),
                on_reply=self.inbox.take,
            )


def test_no_stale_answer_is_given_after_an_invalidation_and_no_other_is_lost(running: RunningStack) -> None:
    with running.client() as client:
        traffic = Traffic(client)
        with traffic.flowing():
            eventually(lambda: all(len(traffic.replies(*scope)) > 10 for scope in SCOPES), "replies in every scope")
            done = client.invalidate(tenant="north", source="pricing")
            returned_ms = time.time() * 1000
            eventually(
                lambda: all(len(traffic.replies(*scope, since_ms=returned_ms)) > 25 for scope in SCOPES),
                "replies in every scope after it",
            )
    assert done.outcome == "applied"

    began_ms = traffic.began_ms()
    after = traffic.replies(*STALE, since_ms=returned_ms)
    assert not [reply for reply in after if reply.error]
    given = [reply for reply in after if reply.matched_request_id is not None]
    assert given  # the cache fills again
    for reply in given:
        # Of neither cache, and of no generation that was in flight: the clocks are one, and told in whole milliseconds.
        assert began_ms[reply.matched_request_id or ""] >= done.happened_ms - 2

    for scope in SCOPES:
        kept = {reply.matched_request_id for reply in traffic.replies(*scope) if reply.cache_status == "exact"}
        of_before = {request_id for request_id in kept if began_ms[request_id or ""] < done.happened_ms}
        assert of_before
        if scope != STALE:
            given_after = {reply.matched_request_id for reply in traffic.replies(*scope, since_ms=returned_ms)}
            assert of_before <= given_after, f"answers of {scope} were lost"


def test_an_invalidation_waits_for_redis(running: RunningStack) -> None:
    supervisor = Supervisor(running.stack.home)
    errors = _store_errors(running)
    with running.client() as client, ThreadPoolExecutor(1) as background:
        try:
            supervisor.stop("redis")
            eventually(lambda: running.stack.pid("redis") is None, "Redis has stopped")
            invalidating = background.submit(client.invalidate, source="pricing", timeout_s=90)
            eventually(lambda: _store_errors(running) > errors, "the job misses Redis")
            checkpoints = _checkpoints(running)
            eventually(lambda: _checkpoints(running) > checkpoints + 1, "the command that waits is in a checkpoint")
            assert not invalidating.done()
        finally:
            supervisor.start("redis")
        assert invalidating.result().outcome == "applied"


def _store_errors(running: RunningStack) -> float:
    return running.total("job", "forebay_store_errors_total", store="redis")


def _checkpoints(running: RunningStack) -> int:
    """How many the job has completed."""
    jobs = (running.rest("/jobs/overview") or {}).get("jobs", [])
    alive = [job["jid"] for job in jobs if job["state"] == "RUNNING"]
    counts = (running.rest(f"/jobs/{alive[0]}/checkpoints") or {}).get("counts", {}) if alive else {}
    return counts.get("completed", 0)
