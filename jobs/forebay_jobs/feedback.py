"""What was thought of answers, as far as the job learns from it: complaints about answers that were reused."""

import logging

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Event, Feedback, Verdict
from forebay_schemas.validation import check_tenant, validate_feedback

from .caches.hits import Hit
from .messages import Outgoing, asker_name
from .reuse.teacher import Teacher

QUARANTINED = "entry_quarantined"
"""The event that tells operators of a wrong hit."""

logger = logging.getLogger(__name__)


class Complaints:
    """Reads feedback. None of it can end the job."""

    def __init__(self, config: Config, codec: Codec, teacher: Teacher) -> None:
        self._topics = config.kafka.topics
        self._owners = config.feedback_topics
        self._codec = codec
        self._teacher = teacher

    def take(self, topic: str, value: bytes, now_ms: int) -> list[Outgoing]:
        """What follows from a record of a feedback topic: an event, where an entry is quarantined for it."""
        try:
            feedback = self._codec.decode(value, Feedback)
            validate_feedback(feedback)
            check_tenant(feedback.tenant, topic, self._owners.get(topic))
        except ForebayError as error:
            logger.warning("a record of %s is passed over (%s)", topic, error)
            return []
        if feedback.verdict is not Verdict.DOWN:
            return []
        hit = self._teacher.complained(asker_name(feedback.tenant, feedback.request_id), feedback.source)
        return [self._event(feedback, hit, now_ms)] if hit else []

    def _event(self, feedback: Feedback, hit: Hit, now_ms: int) -> Outgoing:
        event = Event(
            event=QUARANTINED,
            source="job",
            happened_ms=now_ms,
            attributes={
                "tenant": feedback.tenant,
                "request_id": feedback.request_id,
                "category": hit.category,
                "key": hit.digest,
                "by": feedback.source,
            },
        )
        return Outgoing(topic=self._topics.events, key=hit.digest.encode(), value=self._codec.encode(event))
