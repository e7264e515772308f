"""Records that cannot be answered: kept for operators, and said to the asker where one can be read."""

import hashlib
import logging

from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import DeadLetter, Lane, Request
from forebay_schemas.topics import Headers

from .messages import Asker, Incoming, Outgoing
from .replies import ReplyWriter

KEPT_BYTES = 64 * 1024
"""Of a longer value a dead letter keeps the beginning, its length and its digest."""

logger = logging.getLogger(__name__)


class DeadLetterWriter:
    """Turns a record that failed into a dead letter and, where its asker is known, an error reply."""

    def __init__(self, config: Config, codec: Codec, replies: ReplyWriter, metrics: JobMetrics) -> None:
        self._topics = config.kafka.topics
        self._codec = codec
        self._replies = replies
        self._metrics = metrics

    def give_up(
        self,
        record: Incoming,
        error: RecordError,
        now_ms: int,
        *,
        headers: Headers | None = None,
        request: Request | None = None,
        reply_topic: str | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> list[Outgoing]:
        """The dead letter, and the error reply if the request's id and tenant can be read.

        Args:
            record: as it came.
            error: why it cannot be answered.
            now_ms: the time.
            headers: of the record, where they could be read.
            request: the decoded value, where it could be.
            reply_topic: where the reply may go; absent: the default topic.
            lane: of the record's topic.
        """
        headers = headers or Headers()
        request_id = request.request_id if request else headers.request_id
        tenant = request.tenant if request else headers.tenant
        self._metrics.dead_letters.labels(error.code).inc()
        logger.warning("dead letter from %s: %s (%s)", record.origin, error.code, error.field or "the record")
        letter = DeadLetter(
            code=error.code,
            reason=str(error),
            place="job",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            failed_ms=now_ms,
            value=record.value[:KEPT_BYTES],
            value_length=len(record.value),
            value_digest=hashlib.sha256(record.value).hexdigest(),
            request_id=request_id or None,
            tenant=tenant or None,
        )
        sent = [Outgoing(topic=self._topics.dead, key=record.origin.encode(), value=self._codec.encode(letter))]
        if request_id and tenant:
            asker = Asker(
                request_id=request_id,
                tenant=tenant,
                category=category_of(request) if request else "default",
                lane=request.lane if request else lane,
                created_ms=request.created_ms if request else now_ms,
                accepted_ms=now_ms,
                reply_topic=reply_topic or self._topics.replies,
                reply_key=headers.reply_key or request_id,
                user=request.user if request else None,
                endpoint=request.endpoint if request else None,
                prompt_version=request.prompt_version if request else None,
                traceparent=headers.traceparent,
            )
            sent.append(self._replies.refuse(asker, error.code, str(error), now_ms))
        return sent
