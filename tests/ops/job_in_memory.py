"""The whole job without Flink, Kafka and models: its own intake, desk and caches, and a worker that answers in time."""

import heapq
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from forebay_jobs.caches.answers import REFRESH_S, Answer, Fetched, Lookup
from forebay_jobs.desk import Desk
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival as AtDesk
from forebay_jobs.messages import Incoming, Outgoing
from forebay_jobs.reuse.lifetime import lived, lot_of
from forebay_ops.replay.run import Run
from forebay_ops.traces.arrivals import Arrival
from forebay_schemas import prices
from forebay_schemas.canonical import category_of
from forebay_schemas.config import Config
from forebay_schemas.records import Latency, Reply, Request, Result, Task, Usage

from tests.builders import NOW_MS
from tests.jobs.doubles import (
    CODEC,
    Meaning,
    MemoryAnswers,
    MemoryIndex,
    MemoryState,
    a_dispatcher,
    is_reply,
    is_task,
    metrics,
    reply_of,
    task_of,
    the_shadows,
)

VERBS = ("send", "pay", "track", "return")
NOUNS = ("parcel", "card", "invoice", "lamp")
CUT_OFF_TOKENS = 10
"""Answers that may have no more are cut off."""


def made_up_arrivals(count: int, seed: int = 1) -> Iterator[Arrival]:
    """Questions that come again, word for word or nearly, in all ways that a request can be sent."""
    dice = random.Random(seed)
    at_ms, fields, label = 0.0, dict[str, Any](), ""
    for _ in range(count):
        twice = bool(fields) and dice.random() < 0.1
        at_ms += dice.expovariate(1 / (100 if twice else 600))
        if twice:
            fields = fields | {"lane": dice.choice(("interactive", "batch"))}
            yield _arrival(at_ms, fields, label)
            continue
        verb, noun = dice.choice(VERBS), dice.choice(NOUNS)
        extra = dice.choice(("", "", "", " please", " now that it rains", " in short", " today", ", and why? Compare"))
        fields = {
            "question": f"How do I {verb} a {noun}{extra}?",
            "tenant": dice.choice(("acme", "acme", "globex")),
            "category": dice.choice(("support", "support", "forms", "chat")),
            "lane": dice.choice(("interactive", "interactive", "batch")),
            "cache": {
                "policy": dice.choice(("use",) * 8 + ("refresh", "bypass")),
                "ttl_s": dice.choice((None, None, None, 20)),
            },
            "min_tier": dice.choice((None,) * 6 + ("medium",)),
            "max_tier": dice.choice((None,) * 6 + ("medium",)),
            "max_tokens": CUT_OFF_TOKENS if "short" in extra else None,
        }
        label = f"{verb} {noun}"
        yield _arrival(at_ms, fields, label)


def usage_of(question: str) -> Usage:
    """The tokens of a question and its answer."""
    return Usage(prompt_tokens=len(question), completion_tokens=20 + len(question) % 7)


def _arrival(at_ms: float, fields: dict[str, Any], label: str) -> Arrival:
    tokens = usage_of(fields["question"])
    return Arrival(
        at_ms=round(at_ms),
        fields=fields,
        label=label,
        prompt_tokens=tokens.prompt_tokens,
        completion_tokens=tokens.completion_tokens,
    )


class BoundedAnswers(MemoryAnswers):
    """Drops answers when their time is up and, where there is no room, the least recently used: as Redis does."""

    def __init__(self, config: Config, most: int | None) -> None:
        super().__init__(config)
        self._most = most
        self._jitter = config.redis.expiry_jitter
        self._now_ms = 0
        self._until_ms: dict[str, int] = {}
        self._refreshed_ms: dict[str, int] = {}

    def look(self, request: Request, digest: str, origin: str, *, read: bool) -> Lookup:
        self._touch(digest if read else "")
        return super().look(request, digest, origin, read=read)

    def fetch(self, wanted: Sequence[tuple[str, dict[str, str]]], *, texts: bool = True) -> list[Fetched]:
        for digest, _ in wanted:
            self._touch(digest)
        return super().fetch(wanted)

    def keep(self, digest: str, answer: Answer, ttl_s: int) -> bool | None:
        self.expire(answer.created_ms)
        self.answers.pop(digest, None)
        answer = msgspec.structs.replace(answer, lives=lived(lot_of(digest), self._jitter))
        self._until_ms[digest] = answer.created_ms + max(1, round(ttl_s * 1000 * answer.lives))
        kept = super().keep(digest, answer, ttl_s)
        if self._most is not None and len(self.answers) > self._most:
            del self.answers[next(iter(self.answers))]
        return kept

    def claim_refresh(self, digest: str) -> bool:
        claimed = self._now_ms >= self._refreshed_ms.get(digest, 0)
        if claimed:
            self._refreshed_ms[digest] = self._now_ms + REFRESH_S * 1000
        return claimed

    def expire(self, now_ms: int) -> None:
        self._now_ms = now_ms
        for digest in [digest for digest in self.answers if self._until_ms[digest] <= now_ms]:
            del self.answers[digest]

    def _touch(self, digest: str) -> None:
        if digest in self.answers:
            self.answers[digest] = self.answers.pop(digest)


class JobInMemory:
    """Plays arrivals as the pipeline would, with a clock that goes from one event to the next."""

    def __init__(self, config: Config, run: Run, most_kept: int | None = None) -> None:
        self._config, self._run, counted = config, run, metrics()
        self._answers = answers = BoundedAnswers(config, most_kept)
        meaning = Meaning(config, MemoryIndex(), answers, counted)
        self._teacher = meaning.teacher
        self._intake = Intake(config, CODEC, answers, counted)
        shadows = the_shadows(config, counted)
        self._desk = Desk(config, CODEC, answers, meaning.cache, a_dispatcher(config, counted), shadows, counted)
        self._state = MemoryState()
        self._tasks = itertools.count()
        self._working: list[tuple[int, str, Task]] = []
        self._replies: list[Reply] = []

    def play(self, arrivals: Iterable[Arrival]) -> list[Reply]:
        """The replies to all of them."""
        for number, arrival in enumerate(arrivals, start=1):
            now_ms = NOW_MS + round(arrival.at_ms)
            self._work_until(now_ms)
            self._answers.expire(now_ms)
            request, _ = self._run.request(number, arrival)
            self._send(request, number, now_ms)
        self._work_until(NOW_MS * 2)
        return self._replies

    def _send(self, request: Request, number: int, now_ms: int) -> None:
        value = CODEC.encode(msgspec.structs.replace(request, created_ms=now_ms))
        record = Incoming(topic="llm.requests", partition=0, offset=number, value=value, headers={})
        for out in self._intake.take(record, request.lane, now_ms):
            self._take(self._desk.arrive(self._state, out, now_ms) if isinstance(out, AtDesk) else [out], now_ms)
        self._take(self._desk.tick(self._state, now_ms), now_ms)

    def _work_until(self, now_ms: int) -> None:
        while self._working and self._working[0][0] <= now_ms:
            ends_ms, _, task = heapq.heappop(self._working)
            reply = self._answer(task, ends_ms)
            if task.reply_topic != self._config.kafka.topics.audit:
                self._replies.append(reply)
            result = Result(
                task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=CODEC.encode(reply)
            )
            self._take(self._desk.settle(self._state, result, ends_ms), ends_ms)
            self._teacher.work()

    def _take(self, sent: Iterable[Outgoing], now_ms: int) -> None:
        for out in sent:
            if is_reply(out):
                self._replies.append(reply_of(out))
            elif is_task(out):
                task = task_of(out)
                takes_ms = 300 + 17 * (next(self._tasks) % 90)
                heapq.heappush(self._working, (now_ms + takes_ms, task.task_id, task))

    def _answer(self, task: Task, ends_ms: int) -> Reply:
        request, tier = CODEC.decode(task.request, Request), task.route.tier
        question = request.messages[-1].content or ""
        usage = usage_of(question)
        if cut_off := request.max_tokens is not None:
            usage = msgspec.structs.replace(usage, completion_tokens=request.max_tokens)
        return Reply(
            request_id=request.request_id,
            tenant=request.tenant,
            category=category_of(request),
            lane=request.lane,
            completed_ms=ends_ms,
            cache_status=task.cache_status,
            text=f"As the manual says of {' '.join(question.split()[3:6:2])}.",  # who asks the same is told the same
            finish_reason="length" if cut_off else "stop",
            usage=usage,
            similarity=task.similarity,
            route=task.route,
            tier=tier,
            model_id=self._config.tiers[tier].model,
            hops=1,
            latency=Latency(total_ms=ends_ms - request.created_ms),
            cost=prices.cost(usage, self._config.price(tier), request.lane),
            baseline_cost=prices.baseline_cost(usage, self._config),
        )
