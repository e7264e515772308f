"""Records that cannot be answered: kept for operators, and said to the asker where one can be read."""

import hashlib
import logging

from forebay_schemas.canonical import category_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import DeadLetter, Lane, Request
from forebay_schemas.topics import DEAD_LETTER_BYTES, Headers
from forebay_schemas.validation import MAX_ID_CHARS

from .messages import Asker, Incoming, Outgoing
from .replies import ReplyWriter

logger = logging.getLogger(__name__)


class DeadLetterWriter:
    """Turns a record that failed into a dead letter and, where its asker is known, an error reply."""

    def __init__(self, config: Config, codec: Codec, replies: ReplyWriter, metrics: JobMetrics) -> None:
        self._config = config
        self._codec = codec
        self._replies = replies
        self._metrics = metrics

    def give_up(
        self, record: Incoming, error: RecordError, lane: Lane, now_ms: int, request: Request | None = None
    ) -> list[Outgoing]:
        """The dead letter, and the error reply if the request's id and tenant can be read.

        Args:
            record: as it came.
            error: why it cannot be answered.
            lane: of the record's topic.
            now_ms: the time.
            request: the decoded value, where it could be; not validated, so its fields may be of any length.
        """
        headers = _readable(record)
        request_id = _name(request.request_id if request else None) or _name(headers.request_id)
        # On a topic that is bound to a tenant nobody can make another tenant's requests fail.
        bound = self._config.request_topics.get(record.topic)
        tenant = bound.tenant if bound else None
        tenant = tenant or _name(request.tenant if request else None) or _name(headers.tenant)
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
            value=record.value[:DEAD_LETTER_BYTES],
            value_length=len(record.value),
            value_digest=hashlib.sha256(record.value).hexdigest(),
            request_id=request_id,
            tenant=tenant,
        )
        topic, replies = self._config.kafka.topics.dead, self._config.kafka.topics.replies
        sent = [Outgoing(topic=topic, key=record.origin.encode(), value=self._codec.encode(letter))]
        if request_id and tenant:
            asker = Asker(
                request_id=request_id,
                tenant=tenant,
                category=_name(category_of(request) if request else None) or "default",
                lane=request.lane if request else lane,
                created_ms=request.created_ms if request and request.created_ms > 0 else now_ms,
                accepted_ms=now_ms,
                # To llm.audit only what the job itself asks may send a reply.
                reply_topic=wanted if (wanted := headers.reply_topic) in self._replies.topics else replies,
                reply_key=headers.reply_key or request_id,
                user=_name(request.user if request else None),
                endpoint=_name(request.endpoint if request else None),
                prompt_version=_name(request.prompt_version if request else None),
                traceparent=headers.traceparent,
            )
            sent.append(self._replies.refuse(asker, error.code, str(error), now_ms))
        return sent


def _readable(record: Incoming) -> Headers:
    try:
        return Headers.from_kafka(record.headers)
    except RecordError:
        return Headers()


def _name(text: str | None) -> str | None:
    """A name that a reply can repeat: with those of a megabyte it would be larger than a record may be."""
    return text if text and len(text) <= MAX_ID_CHARS else None
