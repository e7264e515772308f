"""What an exact hit takes of the job's processor, step by step, in this process: no Flink, and no other thread.

All of it again and again is the least that it can take. The job does other things between two records, as do all that
share its cores, so that neither the interpreter's code nor its data are in a core's caches when the next one comes.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebay_jobs.caches.answers import AnswerStore
from forebay_jobs.caches.redis_store import RedisStore
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Asker, Incoming
from forebay_jobs.replies import ReplyWriter
from forebay_schemas.canonical import category_of, digests
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus, Lane, Request
from forebay_schemas.topics import Headers
from forebay_schemas.validation import validate
from prometheus_client import CollectorRegistry

from .caches import other_work

_HITS = 3_000
"""About a second for each step."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A request whose answer is kept, at every step of its way."""

    record: Incoming
    request: Request
    digest: str
    asker: Asker


def steps_us(config: Config, requests: Sequence[Request]) -> dict[str, float]:
    """Microseconds of processor time of each step, and of a whole hit; Redis' own is not among it.

    Args:
        requests: that the exact cache answers.
    """
    codec, metrics = Codec(), JobMetrics(CollectorRegistry())
    answers = AnswerStore(config, RedisStore(config, metrics))
    intake, replies = Intake(config, codec, answers, metrics), ReplyWriter(config, codec, metrics)
    now_ms = time.time_ns() // 1_000_000
    hits = [_hit(config, codec, request, now_ms) for request in itertools.islice(itertools.cycle(requests), _HITS)]
    kept = answers.look(hits[0].request, hits[0].digest, hits[0].record.origin, read=True).answer
    assert kept is not None
    steps: dict[str, Callable[[_Hit], object]] = {
        "decoding": lambda hit: codec.decode(hit.record.value, Request),
        "checking": lambda hit: validate(hit.request, config, decoded=True),
        "digests": lambda hit: digests(hit.request).exact,
        "asking Redis": lambda hit: answers.look(hit.request, hit.digest, hit.record.origin, read=True),
        "reply": lambda hit: replies.again(hit.asker, kept, CacheStatus.EXACT, now_ms),
        "a whole hit": lambda hit: intake.take(hit.record, Lane.INTERACTIVE, now_ms),
    }
    found = {name: _us(step, hits) for name, step in steps.items()}
    return {**found, "a whole hit, in cold caches": _us(steps["a whole hit"], hits, other_work())}


def _hit(config: Config, codec: Codec, request: Request, now_ms: int) -> _Hit:
    headers = Headers(request_id=request.request_id, tenant=request.tenant)
    topics = config.kafka.topics
    record = Incoming(
        topic=topics.requests, partition=0, offset=0, value=codec.encode(request), headers={**headers.to_kafka()}
    )
    asker = Asker.of(request, headers, category_of(request), topics.replies, record.origin, now_ms)
    return _Hit(record, request, digests(request).exact, asker)


def _us(step: Callable[[_Hit], object], hits: Sequence[_Hit], between: Callable[[], object] = lambda: None) -> float:
    for hit in hits[: len(hits) // 10]:
        step(hit)
    took_s = 0.0
    for hit in hits:
        between()
        began_s = time.thread_time()
        step(hit)
        took_s += time.thread_time() - began_s
    return took_s / len(hits) * 1e6
