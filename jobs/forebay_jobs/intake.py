"""What happens to a request before the desk: decode, validate, exact lookup.

Plain Python; `operators.intake` moves records between this and Flink.
"""

import logging
import time

import msgspec
from forebay_schemas.canonical import category_of, digests, question_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, ForebayError, InvalidRequest, RecordError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CachePolicy, CacheStatus, Lane, Request
from forebay_schemas.sections import WEIGHTS_NONE
from forebay_schemas.topics import Headers
from forebay_schemas.validation import check_tenant, validate

from .arms import Arms, owner_in
from .buckets import bucket_of
from .caches.answers import Answer, AnswerStore, owner_of
from .dead_letters import DeadLetterWriter
from .messages import Arrival, Asker, Incoming, Outgoing
from .replies import ReplyWriter
from .reuse.eligibility import RULES, Reuse, reuse_of, withheld_by_policy
from .reuse.lifetime import shorter_s
from .reuse.tier_bounds import tier_allowed
from .shedding import StandingQueue
from .throttle import Pressure

_SHED = "deadline_ms: hardly reached, because more comes than is worked off; send less at a time, or allow more time"

logger = logging.getLogger(__name__)


class Intake:
    """Answers a request from the exact cache, refuses it, or hands it to the desk. Never raises on a record."""

    def __init__(
        self,
        config: Config,
        codec: Codec,
        answers: AnswerStore,
        metrics: JobMetrics,
        arms: Arms | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        self._config = config
        self._pressure = pressure or Pressure()
        self._arms = arms or Arms(config)
        self._codec = codec
        self._answers = answers
        self._metrics = metrics
        self._queue = StandingQueue()
        self._replies = ReplyWriter(config, codec, metrics)
        self._dead_letters = DeadLetterWriter(config, codec, self._replies, metrics)

    def take(self, record: Incoming, lane: Lane, now_ms: int) -> list[Outgoing | Arrival]:
        """All that follows from one record: replies and dead letters to write, or an arrival for the desk."""
        self._metrics.requests.labels(lane).inc()
        request: Request | None = None
        try:
            request = self._decode(record)  # before the headers: its author is told what is wrong with those
            headers = Headers.from_kafka(record.headers)
            reply_topic = self._allowed_reply_topic(headers)
            self._check(request, record, lane)
            arm = self._arms.arm_of(request)
            asker = Asker.of(request, headers, category_of(request), reply_topic, record.origin, now_ms, arm)
            self._queue.read(asker, now_ms)
            return self._answer(request, asker, record, now_ms)
        except RecordError as error:
            problem = error
        except Exception as error:  # the job would read the record again and die again, whatever it met in a library
            logger.exception("the record %s cannot be handled", record.origin)
            problem = RecordError(ErrorCode.INVALID_REQUEST, f"the job cannot handle it ({type(error).__name__})")
        return [*self._dead_letters.give_up(record, problem, lane, now_ms, request)]

    def _decode(self, record: Incoming) -> Request:
        limit = self._config.kafka.max_record_bytes
        if len(record.value) > limit:
            raise RecordError(
                ErrorCode.TOO_LARGE,
                f"the record has {len(record.value)} bytes, above kafka.max_record_bytes {limit}; send less context",
            )
        try:
            return self._codec.decode(record.value, Request)
        except RecordError:
            raise
        except ForebayError as error:  # a registry that is away
            raise RecordError(ErrorCode.UNKNOWN_SCHEMA, str(error)) from None

    def _check(self, request: Request, record: Incoming, lane: Lane) -> None:
        validate(request, self._config, decoded=True)
        bound = self._config.request_topics.get(record.topic)
        check_tenant(request.tenant, record.topic, bound.tenant if bound else None)
        if request.lane is not lane:
            raise InvalidRequest(
                "lane",
                f"is {request.lane} on {record.topic}, a topic of the lane {lane}",
                "publish to the lane's topic",
            )

    def _allowed_reply_topic(self, headers: Headers) -> str:
        wanted = headers.reply_topic or self._config.kafka.topics.replies
        if wanted not in self._replies.topics:
            raise InvalidRequest(
                "forebay-reply-topic", f"{wanted!a} is not allowed", "add it to kafka.reply_topics or leave it out"
            )
        return wanted

    def _answer(self, request: Request, asker: Asker, record: Incoming, now_ms: int) -> list[Outgoing | Arrival]:
        if asker.expired(now_ms):
            late_ms = now_ms - (request.deadline_ms or 0)
            return [
                self._replies.refuse(
                    asker,
                    ErrorCode.DEADLINE_EXCEEDED,
                    f"deadline_ms: passed {late_ms} ms before the job read it",
                    now_ms,
                )
            ]
        config = self._arms.config(asker.arm)
        category = config.category(asker.category)
        own = digests(request)
        keys = own.in_arm(asker.arm)
        wanted = request.cache.policy is CachePolicy.USE
        read = wanted and withheld_by_policy(request.cache.policy, request.temperature, category) is None
        started = time.perf_counter()
        lookup = self._answers.look(request, keys.exact, record.origin, read=read)
        lookup_ms = (time.perf_counter() - started) * 1000
        if lookup.repeated:
            self._metrics.duplicates.inc()
            return []
        if lookup.cancelled:
            return [self._replies.refuse(asker, ErrorCode.CANCELLED, "taken back before the job read it", now_ms)]
        answer = lookup.answer
        ttl_s = shorter_s(category.exact_ttl_s, request.cache.ttl_s)
        if answer is not None and not (answer.fresh(now_ms, ttl_s) and tier_allowed(answer, asker, config)):
            answer = None
        # Rules take longer than all else here. Those that let an equal request be reused need not be asked again.
        if answer is not None and answer.rules != RULES and not reuse_of(request, config).allowed:
            answer = None
        shed = asker.lane is Lane.INTERACTIVE and self._queue.sheds(asker, now_ms)
        refresh = answer is not None and not shed and self._refreshes(answer, asker, keys.exact, now_ms)
        if answer is not None and not refresh:
            found_ms = now_ms + round(lookup_ms)
            return [*self._replies.again(asker, answer, CacheStatus.EXACT, found_ms, lookup_ms=lookup_ms)]
        if asker.lane is Lane.INTERACTIVE:
            self._pressure.note_interactive()
        if shed:
            return [self._replies.refuse(asker, ErrorCode.DEADLINE_EXCEEDED, _SHED, now_ms)]
        reuse = reuse_of(request, config)
        read = wanted and reuse.allowed
        by_meaning = reuse is Reuse.SEMANTIC and lookup.epochs is not None
        return [
            Arrival(
                asker=asker,
                request=record.value,
                digest=keys.exact,
                bucket=bucket_of(own.exact, self._config.desk.buckets),  # in any arm, so that results find it
                joinable=read,
                bypass=not read,
                look_by_meaning=read and by_meaning and not refresh,  # it would find the very answer that is too old
                question=question_of(request) if by_meaning or _routed_by_meaning(request, reuse, config) else None,
                context=keys.context,
                owner=owner_in(owner_of(request), asker.arm),
                prefix=keys.prefix,
                rules=RULES if reuse.allowed and request.cache.ttl_s is None else "",
                as_json=request.response_format is not None,
                keep=reuse.allowed and lookup.epochs is not None,
                ttl_s=request.cache.ttl_s,
                epochs=lookup.epochs,
                lookup_ms=lookup_ms,
            )
        ]

    def _refreshes(self, answer: Answer, asker: Asker, digest: str, now_ms: int) -> bool:
        """Whether this request has the answer generated anew: the first to find it past its category's objective."""
        fresh_s = self._arms.config(asker.arm).category(asker.category).fresh_s
        return fresh_s is not None and not answer.fresh(now_ms, fresh_s) and self._answers.claim_refresh(digest)


def _routed_by_meaning(request: Request, reuse: Reuse, config: Config) -> bool:
    """Whether a request is embedded for learned weights, also where it wishes to pass the caches or Redis is away: they
    are to route it as they would otherwise, and as they did where a job that was set back reads it again."""
    if config.router.weights == WEIGHTS_NONE:
        return False
    if request.cache.policy is CachePolicy.BYPASS:
        used = msgspec.structs.replace(request.cache, policy=CachePolicy.USE)
        reuse = reuse_of(msgspec.structs.replace(request, cache=used), config)
    return reuse is Reuse.SEMANTIC
