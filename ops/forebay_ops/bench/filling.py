"""Answers that are known before a measurement begins, kept as the job keeps those of its workers."""

import time
from collections.abc import Sequence

from forebay_jobs.caches.answers import Answer, AnswerStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.reuse.eligibility import RULES
from forebay_schemas.canonical import digests, question_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus, Reply, Request, Route, Usage
from prometheus_client import CollectorRegistry

from .process import BenchFailed

_TTL_S = 3_600
_WORDS = "Check the seal first, then the rotor, and send it back to us where neither helps. "


def fill(config: Config, requests: Sequence[Request], texts: Sequence[str]) -> None:
    """Keep an answer to each request.

    Raises:
        BenchFailed: Redis does not answer.
    """
    store = AnswerStore(config, RedisStore(config, JobMetrics(CollectorRegistry())))
    for request, text in zip(requests, texts, strict=True):
        digest = digests(request).exact
        lookup = store.look(request, digest, "filling", read=False)
        if lookup.epochs is None:
            raise BenchFailed("redis does not answer")
        reply = reply_to(request, text, config)
        store.keep(digest, Answer.of(reply, lookup.epochs, question=question_of(request), rules=RULES), _TTL_S)


def as_long(request: Request, number: int, config: Config) -> str:
    """An answer of this number whose reply is about as long as the request."""
    codec = Codec()
    wanted = len(codec.encode(request)) - len(codec.encode(reply_to(request, "", config)))
    text = f"Answer {number}. " + _WORDS * (wanted // len(_WORDS) + 1)
    return text[: max(wanted, len(f"Answer {number}."))]


def reply_to(request: Request, text: str, config: Config) -> Reply:
    """The reply of a worker with this text."""
    tier = config.largest_tier
    return Reply(
        request_id=request.request_id,
        tenant=request.tenant,
        completed_ms=int(time.time() * 1000),
        cache_status=CacheStatus.MISS,
        text=text,
        finish_reason="stop",
        usage=Usage(prompt_tokens=100, completion_tokens=50),
        category=request.category or "default",
        route=Route(tier=tier, complexity=0.5, confidence=1.0, reason="complexity"),
        model_id=config.tiers[tier].model,
        tier=tier,
        synthetic=True,
    )
