"""What a task leads to: the records that tell everybody, built here and published in one transaction."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from forebay_schemas import prices
from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, RecordError
from forebay_schemas.records import DeadLetter, Event, Hop, Latency, Reply, ReplyError, Request, Result, Task, Usage
from forebay_schemas.topics import DEAD_LETTER_BYTES, Headers, task_key

from .backends import Generation
from .escalation import generations
from .lanes import Delivery

ERROR_CHARS = 500
"""The most that an error reply or a line of a dead letter's history says: libraries may quote whole prompts."""


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record to publish."""

    topic: str
    key: str | None
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended: a reply (an answer or an error), a dead letter, both, or a task for another tier.

    Attributes:
        reply: absent where nobody is answered yet, or nobody can be.
        dead: why there is a dead letter among the records.
        hops: what this delivery adds to the reply's path.
        handed_to: the tier whose turn it is now; the last hop says why.
        standby: whether another model than the tier's own answered.
        to_nobody: whether the job asked itself, so that the reply is no service's.
    """

    records: tuple[OutgoingRecord, ...]
    reply: Reply | None = None
    dead: ErrorCode | None = None
    hops: tuple[Hop, ...] = ()
    handed_to: str | None = None
    standby: bool = False
    to_nobody: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A delivery that could be read.

    Attributes:
        started_ms: when work on it began, in milliseconds since the epoch.
        config: what holds for it, with what its rollouts change.
        hops: what this delivery adds to the path so far: generations that do not go out, unavailable tiers.
    """

    delivery: Delivery
    task: Task
    request: Request
    started_ms: float
    config: Config
    hops: tuple[Hop, ...] = ()

    @property
    def path(self) -> list[Hop]:
        """The hops of all deliveries of the task."""
        return [*self.task.path, *self.hops]

    def after(self, hop: Hop) -> "Work":
        """The same work, one hop further."""
        return replace(self, hops=(*self.hops, hop))


class Outcomes:
    """Builds outcomes for one installation. Times are in milliseconds since the epoch."""

    def __init__(self, config: Config, codec: Codec) -> None:
        self._config = config
        self._codec = codec

    def answered(self, work: Work, generation: Generation, now_ms: float, doubt: str | None = None) -> Outcome:
        """The model wrote an answer. One that is larger than a record may be becomes an error.

        Args:
            doubt: why a person should look at the answer, where no further tier may be asked.
        """
        outcome = self._replied(work, now_ms, generation=generation, review=doubt is not None)
        if len(outcome.records[0].value) > self._config.kafka.max_record_bytes:
            message = "the answer is larger than a record may be; lower max_tokens"
            return self.failed(work, ErrorCode.TOO_LARGE, message, now_ms, generation)
        if doubt is None or outcome.to_nobody:
            return outcome
        return replace(outcome, records=(*outcome.records, self._for_review(work, generation, doubt, now_ms)))

    def failed(
        self, work: Work, code: ErrorCode, message: str, now_ms: float, generation: Generation | None = None
    ) -> Outcome:
        """There is no answer, and the asker is told why; a ``generation`` that came of it is charged for."""
        error = ReplyError(code=code, message=bounded(message), retryable=code.retryable)
        return self._replied(work, now_ms, generation=generation, error=error)

    def given_up(self, work: Work, now_ms: float) -> Outcome:
        """The task failed, or ended its worker, too often: the asker is told, and an operator gets it."""
        attempts, history = work.delivery.attempts, work.delivery.history
        message = f"it failed {attempts} times and is kept in the dead letters; the last time: {history[-1]}"
        outcome = self.failed(work, ErrorCode.GIVEN_UP, message, now_ms)
        letter = self._letter(work.delivery, ErrorCode.GIVEN_UP, bounded(message), now_ms)
        letter = msgspec.structs.replace(
            letter,
            request_id=work.request.request_id,
            tenant=work.request.tenant,
            attempts=attempts,
            history=[bounded(line) for line in history],
        )
        dead = self._dead_record(letter, work.task.traceparent)
        return replace(outcome, records=(*outcome.records, dead), dead=ErrorCode.GIVEN_UP)

    def undeliverable(self, work: Work, outcome: Outcome, refused: Mapping[str, str], now_ms: float) -> Outcome:
        """The brokers refuse some of an outcome's records: the others go out, and an operator gets the task.

        Args:
            refused: by topic, the brokers' reason.
        """
        message = "; ".join(f"the brokers refuse what is for {topic} ({reason})" for topic, reason in refused.items())
        if outcome.handed_to is not None:
            outcome = self.failed(replace(work, hops=outcome.hops), ErrorCode.UNDELIVERABLE, message, now_ms)
        left = tuple(record for record in outcome.records if record.topic not in refused)
        if outcome.dead is not None:  # its letter says more
            return replace(outcome, records=left)
        letter = self._letter(work.delivery, ErrorCode.UNDELIVERABLE, bounded(message), now_ms)
        letter = msgspec.structs.replace(letter, request_id=work.request.request_id, tenant=work.request.tenant)
        dead = self._dead_record(letter, work.task.traceparent)
        return replace(outcome, records=(*left, dead), dead=ErrorCode.UNDELIVERABLE)

    def handed_on(self, work: Work, tier: str) -> Outcome:
        """The task goes to another tier, for the reason of its last hop; the asker goes on waiting.

        It keeps its key, by which the tasks of one static prefix meet there too.
        """
        task = msgspec.structs.replace(work.task, hop=work.task.hop + 1, path=work.path)
        headers = msgspec.structs.replace(
            _to_asker(work), deadline_ms=work.request.deadline_ms, bucket=task.bucket, task=task.name
        )
        record = OutgoingRecord(
            self._config.kafka.topics.tier(tier, work.delivery.lane),
            work.delivery.key.decode(errors="replace") if work.delivery.key else task_key(None, task.task_id),
            self._codec.encode(task),
            headers.to_kafka(),
        )
        return Outcome((record,), hops=work.hops, handed_to=tier)

    def dead(self, delivery: Delivery, error: RecordError, now_ms: float) -> Outcome:
        """The record cannot be read, so nobody can be answered: it is kept for an operator."""
        try:
            headers = Headers.from_kafka(delivery.headers)
        except RecordError:
            headers = Headers()
        letter = self._letter(delivery, error.code, str(error), now_ms)
        letter = msgspec.structs.replace(letter, request_id=headers.request_id, tenant=headers.tenant)
        return Outcome((self._dead_record(letter, headers.traceparent),), dead=error.code)

    def hop(self, work: Work, generation: Generation, reason: str) -> Hop:
        """A generation that does not go out."""
        return Hop(
            tier=work.delivery.tier,
            model_id=generation.model_id,
            reason=reason,
            confidence=generation.confidence,
            usage=generation.usage,
            cost=self._cost(work, generation),
        )

    def _cost(self, work: Work, generation: Generation) -> float:
        """US dollars."""
        config, model = work.config, generation.model_id
        lane = prices.charged_lane(work.request.lane, config.models[model], in_batch=generation.in_batch)
        return prices.cost(generation.usage, config.generation_price(work.delivery.tier, model), lane)

    def _replied(
        self,
        work: Work,
        now_ms: float,
        *,
        generation: Generation | None = None,
        error: ReplyError | None = None,
        review: bool = False,
    ) -> Outcome:
        task, request, path = work.task, work.request, work.path
        own_model = work.config.tiers[work.delivery.tier].model
        answer = None if error else generation
        usage = generation.usage if generation else Usage()
        reply = Reply(
            request_id=request.request_id,
            tenant=request.tenant,
            completed_ms=int(now_ms),
            cache_status=task.cache_status,
            text=answer.text if answer else "",
            finish_reason=answer.finish_reason if answer else None,
            error=error,
            usage=usage,
            user=request.user,
            endpoint=request.endpoint,
            category=category_of(request),
            lane=request.lane,
            similarity=task.similarity,
            route=task.route,
            model_id=generation.model_id if generation else own_model,
            synthetic=generation.synthetic if generation else False,
            prompt_version=request.prompt_version,
            hops=generations(path) + (generation is not None),
            latency=_latency(work, generation, now_ms),
            cost=sum(hop.cost for hop in path) + (self._cost(work, generation) if generation else 0.0),
            baseline_cost=prices.baseline_cost(usage, self._config),
            tier=work.delivery.tier,
            confidence=answer.confidence if answer else None,
            review=review,
            path=path,
            arm=task.arm,
            tool_calls=answer.tool_calls if answer else None,
        )
        encoded = self._codec.encode(reply)
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=encoded)
        to_asker = _to_asker(work)
        to_job = msgspec.structs.replace(to_asker, bucket=task.bucket)
        results = self._config.kafka.topics.results
        return Outcome(
            (
                OutgoingRecord(task.reply_topic, task.reply_key, encoded, to_asker.to_kafka()),
                OutgoingRecord(results, task.bucket, self._codec.encode(result), to_job.to_kafka()),
            ),
            reply=reply,
            hops=work.hops,
            standby=generation is not None and generation.model_id != own_model,
            to_nobody=task.reply_topic == self._config.kafka.topics.audit,
        )

    def _for_review(self, work: Work, generation: Generation, doubt: str, now_ms: float) -> OutgoingRecord:
        request = work.request
        event = Event(
            event="review",
            source="worker",
            happened_ms=int(now_ms),
            attributes={
                "request_id": request.request_id,
                "tenant": request.tenant,
                "reason": doubt,
                "model_id": generation.model_id,
            },
        )
        topic = self._config.kafka.topics.events
        return OutgoingRecord(topic, request.request_id, self._codec.encode(event), _to_asker(work).to_kafka())

    def _letter(self, delivery: Delivery, code: ErrorCode, reason: str, now_ms: float) -> DeadLetter:
        return DeadLetter(
            code=code,
            reason=reason,
            place="worker",
            topic=delivery.partition[0],
            partition=delivery.partition[1],
            offset=delivery.offset,
            failed_ms=int(now_ms),
            value=delivery.value[:DEAD_LETTER_BYTES],
            value_length=len(delivery.value),
            value_digest=hashlib.sha256(delivery.value).hexdigest(),
        )

    def _dead_record(self, letter: DeadLetter, traceparent: str | None) -> OutgoingRecord:
        ids = Headers(request_id=letter.request_id, tenant=letter.tenant, traceparent=traceparent)
        topic = self._config.kafka.topics.dead
        return OutgoingRecord(topic, letter.request_id, self._codec.encode(letter), ids.to_kafka())


def bounded(message: str) -> str:
    """At most ``ERROR_CHARS`` of a message, and a sign that there was more."""
    return message if len(message) <= ERROR_CHARS else f"{message[:ERROR_CHARS]}..."


def _to_asker(work: Work) -> Headers:
    return Headers(request_id=work.request.request_id, tenant=work.request.tenant, traceparent=work.task.traceparent)


def _latency(work: Work, generation: Generation | None, now_ms: float) -> Latency:
    """The stages; none is negative when the clocks of two machines disagree."""
    task = work.task
    generation_ms = max(0.0, now_ms - work.started_ms)
    total_ms = max(0.0, now_ms - work.request.created_ms)
    return Latency(
        queue_ms=max(0.0, total_ms - task.embedding_ms - task.lookup_ms - generation_ms),
        embedding_ms=task.embedding_ms,
        lookup_ms=task.lookup_ms,
        generation_ms=generation_ms,
        total_ms=total_ms,
        first_token_ms=generation.first_token_ms if generation else None,
    )
