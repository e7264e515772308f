"""Answers are invalidated in the middle of traffic, and while Redis is away."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from forebay_client import Client, Reply
from forebay_ops.local.supervision import Supervisor
from forebay_schemas.records import CacheOptions

from .conftest import RunningStack, eventually
from .traffic import Inbox

SCOPES = [(tenant, source) for tenant in ("north", "south") for source in ("pricing", "stock")]
STALE = ("north", "pricing")
ASKED_EACH = 5


class Traffic:
    """Equal requests of all scopes again and again, each with an id that tells its scope and when it was sent."""

    def __init__(self, client: Client) -> None:
        self.inbox = Inbox()
        self.sent_ms: dict[str, float] = {}
        self._client = client
        self._stop = threading.Event()

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
        eventually(lambda: len(self.inbox) == len(self.sent_ms), "a reply to each")

    def replies(self, tenant: str, source: str, *, since_ms: float = 0.0) -> list[Reply]:
        """The replies of a scope to what was sent since a time."""
        return [
            reply
            for request_id, (reply, *_) in list(self.inbox.replies.items())
            if request_id.startswith(f"{tenant} {source} ") and self.sent_ms[request_id] >= since_ms
        ]

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(0.02):
            number += 1
            tenant, source = SCOPES[number % len(SCOPES)]
            request_id = f"{tenant} {source} {number}"
            self.sent_ms[request_id] = time.time() * 1000
            self._client.publish(
                f"What does {source} say about weir {number // len(SCOPES) % ASKED_EACH}?",
                request_id=request_id,
                tenant=tenant,
                cache=CacheOptions(sources=[source]),
                on_reply=self.inbox.take,
            )


def test_no_stale_answer_is_given_after_an_invalidation_and_no_other_is_lost(running: RunningStack) -> None:
    with running.client() as client:
        traffic = Traffic(client)
        with traffic.flowing():
            eventually(
                lambda: all(
                    sum(reply.cache_status == "exact" for reply in traffic.replies(*scope)) > 10 for scope in SCOPES
                ),
                "answers from the cache in every scope",
            )
            done = client.invalidate(tenant="north", source="pricing")
            returned_ms = time.time() * 1000
            eventually(
                lambda: all(len(traffic.replies(*scope, since_ms=returned_ms)) > 25 for scope in SCOPES),
                "replies in every scope after it",
            )
    assert done.outcome == "applied"

    began_ms = {
        reply.request_id: reply.completed_ms - reply.latency.generation_ms
        for scope in SCOPES
        for reply in traffic.replies(*scope)
        if reply.cache_status == "miss"
    }
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
    with running.client() as client, ThreadPoolExecutor(1) as background:
        supervisor.stop("redis")
        try:
            invalidating = background.submit(client.invalidate, source="pricing", timeout_s=90)
            eventually(lambda: running.total("job", "forebay_store_up", store="redis") == 0, "the job misses Redis")
            checkpoints = _checkpoints(running)
            eventually(lambda: _checkpoints(running) > checkpoints + 1, "the command that waits is in a checkpoint")
            assert not invalidating.done()
        finally:
            supervisor.start("redis")
        assert invalidating.result().outcome == "applied"


def _checkpoints(running: RunningStack) -> int:
    """How many the job has completed."""
    jobs = (running.rest("/jobs/overview") or {}).get("jobs", [])
    alive = [job["jid"] for job in jobs if job["state"] == "RUNNING"]
    counts = (running.rest(f"/jobs/{alive[0]}/checkpoints") or {}).get("counts", {}) if alive else {}
    return counts.get("completed", 0)
