"""Reuse within a bound on a stack of its own: labelled questions, feedback, and a TaskManager killed in the middle."""

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from forebay_client import Reply
from forebay_jobs.caches.hits import HitStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.messages import asker_name
from forebay_schemas.config import load_config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus
from forebay_schemas.sections import CategoryConfig
from forebay_schemas.tiers import ModelConfig
from prometheus_client import CollectorRegistry

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


class Provider(BaseHTTPRequestHandler):
    """Answers by what a question is about."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
        about = " ".join(next(word for word in words if word in asked) for words in (VERBS, THINGS))
        message = {"role": "assistant", "content": f"All about this: {about}"}
        usage = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        body = json.dumps({"id": "1", "object": "chat.completion", "choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def bounded() -> Iterator[RunningStack]:
    """A stack whose one model knows the right answers, and whose judge goes by their words."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    price = {"input_per_1k": 0.001, "output_per_1k": 0.002}
    endpoint = {"url": f"http://127.0.0.1:{server.server_port}/v1", "concurrency": 16}
    provider = ModelConfig.model_validate({"backend": "openai", "endpoint": endpoint, "price": price})
    config = load_config(SETTINGS)
    tiers = {
        name: tier.model_copy(update={"model": "provider", "priced_as": None}) for name, tier in config.tiers.items()
    }
    faq = CategoryConfig.model_validate({"delta": DELTA, "judge": {"by": "text"}})
    changes = {"models": {"provider": provider}, "tiers": tiers, "categories": {"faq": faq}}
    with stack_up(config.model_copy(update=changes)) as running:
        yield running
    server.shutdown()
    server.server_close()


class Player:
    """Asks the stream, some at a time, and complains about the wrong answers that it is given from the cache."""

    def __init__(self, running: RunningStack, asked: list[Asked]) -> None:
        self._running = running
        self._asked = {one.request_id: one for one in asked}
        self._room = threading.Semaphore(16)
        self.replies: dict[str, list[Reply]] = {one.request_id: [] for one in asked}
        self.half = threading.Event()
        self._came = 0

    def play(self) -> None:
        with self._running.client(tenant=TENANT) as client:
            for one in self._asked.values():
                assert self._room.acquire(timeout=120)
                client.publish(one.words, on_reply=self._take, request_id=one.request_id, category="faq")
            for _ in range(16):
                assert self._room.acquire(timeout=120), "some were not answered"
            for request_id in [self.hits[0], *self.wrong]:
                client.feedback(request_id, "down", tenant=TENANT)

    @property
    def hits(self) -> list[str]:
        """The requests that were given another question's answer, in the order of asking."""
        return [name for name, came in self.replies.items() if came and came[0].cache_status is CacheStatus.SEMANTIC]

    @property
    def wrong(self) -> list[str]:
        return [name for name in self.hits if not self.replies[name][0].text.endswith(self._asked[name].about)]

    def _take(self, reply: Reply) -> None:
        self.replies[reply.request_id].append(reply)
        self._came += 1
        if self._came >= COUNT // 2:
            self.half.set()
        self._room.release()


def test_the_bound_holds_on_the_whole_stack_whatever_is_killed(bounded: RunningStack) -> None:
    player = Player(bounded, stream(seed=5))
    playing = threading.Thread(target=player.play)
    playing.start()
    assert player.half.wait(240)
    pid = bounded.stack.pid("taskmanager")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    playing.join(240)
    assert not playing.is_alive()
    assert {len(came) for came in player.replies.values()} == {1}
    assert [came[0].error for came in player.replies.values() if came[0].error] == []

    assert len(player.wrong) <= MOST_WRONG
    numbers = [int(name.removeprefix("q-")) for name in player.hits]
    assert len(numbers) > COUNT * 0.05
    # What was learned outlives the process that learned it: a new beginning would have fewer hits than the first one.
    assert sum(number >= COUNT // 2 for number in numbers) > sum(number < COUNT // 2 for number in numbers)

    store = HitStore(bounded.config, RedisStore(bounded.config, JobMetrics(CollectorRegistry())))
    for request_id in {player.hits[0], *player.wrong}:
        eventually(lambda name=request_id: _complaint(store, name) == "user", f"the complaint about {request_id}")


def _complaint(store: HitStore, request_id: str) -> str | None:
    known = store.find(asker_name(TENANT, request_id))
    return known.complaint if known else None
