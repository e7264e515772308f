"""What a task leads to: the records that tell everybody, built here and published in one transaction."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from forebay_schemas import prices
from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, RecordError
from forebay_schemas.records import DeadLetter, Latency, Reply, ReplyError, Request, Result, Task, Usage
from forebay_schemas.topics import DEAD_LETTER_BYTES, Headers

from .backends import Generation, ModelBackend
from .lanes import Delivery

ERROR_CHARS = 500
"""The most that an error reply says."""


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record to publish."""

    topic: str
    key: str | None
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended: a reply (an answer or an error), or a dead letter."""

    records: tuple[OutgoingRecord, ...]
    reply: Reply | None = None
    dead: ErrorCode | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A delivery that could be read, and the model that is to answer it."""

    delivery: Delivery
    task: Task
    request: Request
    backend: ModelBackend


@dataclass(frozen=True, slots=True)
class Timing:
    """When the work on a task began and ended, in milliseconds since the epoch."""

    started_ms: float
    finished_ms: float


class Outcomes:
    """Builds outcomes for one installation."""

    def __init__(self, config: Config, codec: Codec) -> None:
        self._config = config
        self._codec = codec

    def answered(self, work: Work, generation: Generation, timing: Timing) -> Outcome:
        """The model wrote an answer. One that is larger than a record may be becomes an error."""
        outcome = self._replied(work, timing, generation=generation)
        if len(outcome.records[0].value) > self._config.kafka.max_record_bytes:
            message = "the answer is larger than a record may be; lower max_tokens"
            return self.failed(work, ErrorCode.TOO_LARGE, message, timing)
        return outcome

    def failed(self, work: Work, code: ErrorCode, message: str, timing: Timing) -> Outcome:
        """There is no answer, and the asker is told why, in bounded length: libraries may quote whole prompts."""
        message = message if len(message) <= ERROR_CHARS else f"{message[:ERROR_CHARS]}..."
        return self._replied(work, timing, error=ReplyError(code=code, message=message, retryable=code.retryable))

    def dead(self, delivery: Delivery, error: RecordError, now_ms: float) -> Outcome:
        """The record cannot be read, so nobody can be answered: it is kept for an operator."""
        try:
            headers = Headers.from_kafka(delivery.headers)
        except RecordError:
            headers = Headers()
        letter = DeadLetter(
            code=error.code,
            reason=str(error),
            place="worker",
            topic=delivery.partition[0],
            partition=delivery.partition[1],
            offset=delivery.offset,
            failed_ms=int(now_ms),
            value=delivery.value[:DEAD_LETTER_BYTES],
            value_length=len(delivery.value),
            value_digest=hashlib.sha256(delivery.value).hexdigest(),
            request_id=headers.request_id,
            tenant=headers.tenant,
        )
        ids = Headers(request_id=headers.request_id, tenant=headers.tenant, traceparent=headers.traceparent)
        topic = self._config.kafka.topics.dead
        record = OutgoingRecord(topic, headers.request_id, self._codec.encode(letter), ids.to_kafka())
        return Outcome((record,), dead=error.code)

    def _replied(
        self, work: Work, timing: Timing, generation: Generation | None = None, error: ReplyError | None = None
    ) -> Outcome:
        task, request = work.task, work.request
        usage = generation.usage if generation else Usage()
        reply = Reply(
            request_id=request.request_id,
            tenant=request.tenant,
            completed_ms=int(timing.finished_ms),
            cache_status=task.cache_status,
            text=generation.text if generation else "",
            finish_reason=generation.finish_reason if generation else None,
            error=error,
            usage=usage,
            user=request.user,
            endpoint=request.endpoint,
            category=category_of(request),
            lane=request.lane,
            similarity=task.similarity,
            route=task.route,
            model_id=work.backend.model_id,
            synthetic=work.backend.synthetic,
            prompt_version=request.prompt_version,
            hops=1 if generation else 0,
            latency=_latency(task, request, timing),
            cost=prices.cost(usage, self._config.price(work.delivery.tier), request.lane),
            baseline_cost=prices.baseline_cost(usage, self._config),
        )
        encoded = self._codec.encode(reply)
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=encoded)
        to_asker = Headers(request_id=request.request_id, tenant=request.tenant, traceparent=task.traceparent)
        to_job = msgspec.structs.replace(to_asker, bucket=task.bucket)
        results = self._config.kafka.topics.results
        return Outcome(
            (
                OutgoingRecord(task.reply_topic, task.reply_key, encoded, to_asker.to_kafka()),
                OutgoingRecord(results, task.bucket, self._codec.encode(result), to_job.to_kafka()),
            ),
            reply=reply,
        )


def _latency(task: Task, request: Request, timing: Timing) -> Latency:
    """The stages; none is negative when the clocks of two machines disagree."""
    return Latency(
        queue_ms=max(0.0, timing.started_ms - task.accepted_ms),
        embedding_ms=task.embedding_ms,
        lookup_ms=task.lookup_ms,
        generation_ms=max(0.0, timing.finished_ms - timing.started_ms),
        total_ms=max(0.0, timing.finished_ms - request.created_ms),
    )
