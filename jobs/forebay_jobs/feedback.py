"""What was thought of answers, as far as the job learns from it; what Redis cannot take is kept until it can."""

import logging
from typing import Protocol

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Event, Feedback, Verdict
from forebay_schemas.validation import check_tenant, validate_feedback

from .caches.hits import Hit
from .desk_state import DeskState
from .messages import Outgoing, Thumb, tenant_of
from .reuse.teacher import Complained, Outcome

QUARANTINED = "entry_quarantined"
"""The event that tells operators of a wrong hit."""
COMPLAINTS = "~thumbs"
"""The key under which the next try is noted; no flight has it."""
RETRY_MS = 1_000
MOST_WAITING = 10_000
"""Of one bucket, while Redis is away: some MB. Beyond, the oldest are dropped."""

logger = logging.getLogger(__name__)


class Thumbs:
    """Reads the feedback topics. None of it can end the job."""

    def __init__(self, config: Config, codec: Codec) -> None:
        self._owners = config.feedback_topics
        self._codec = codec

    def take(self, topic: str, value: bytes) -> Thumb | None:
        """What a record of a feedback topic says; None where it cannot be read, or its tenant may not say it there."""
        try:
            feedback = self._codec.decode(value, Feedback)
            validate_feedback(feedback)
            check_tenant(feedback.tenant, topic, self._owners.get(topic))
        except ForebayError as error:
            logger.warning("a record of %s is passed over (%s)", topic, error)
            return None
        except Exception:  # the job would read the record again and die again
            logger.exception("a record of %s is passed over, on a defect", topic)
            return None
        return Thumb(
            tenant=feedback.tenant,
            request_id=feedback.request_id,
            up=feedback.verdict is Verdict.UP,
            source=feedback.source,
        )


class Listens(Protocol):
    """What is asked of ``SemanticCache``."""

    def complained(self, name: str, voice: str) -> Complained | None: ...

    def praised(self, name: str) -> Complained | None: ...


class Complaints:
    """The thumbs of one bucket, kept in its state until they have taught."""

    def __init__(self, config: Config, codec: Codec, reuse: Listens, metrics: JobMetrics) -> None:
        self._topic = config.kafka.topics.events
        self._codec = codec
        self._reuse = reuse
        self._metrics = metrics

    def take(self, state: DeskState, thumb: Thumb, now_ms: int) -> list[Outgoing]:
        """Let a thumb teach, or keep it for the next try; the event, where an entry is quarantined for it."""
        sent = self._apply(thumb, now_ms)
        if sent is not None:
            return sent
        self._metrics.reuse_thumbs.labels("waiting").inc()
        state.add_thumb(thumb)
        state.wake(COMPLAINTS, now_ms + RETRY_MS)
        return []

    def retry(self, state: DeskState, now_ms: int) -> list[Outgoing]:
        """Try again what could not teach, in order, until Redis is away again."""
        waiting = state.take_thumbs()
        sent: list[Outgoing] = []
        for done, thumb in enumerate(waiting):
            events = self._apply(thumb, now_ms)
            if events is None:
                left = waiting[done:]
                break
            sent += events
        else:
            return sent
        if len(left) > MOST_WAITING:
            lost = len(left) - MOST_WAITING
            logger.error("%d complaints are dropped, Redis is away for too long", lost)
            self._metrics.reuse_thumbs.labels("dropped").inc(lost)
        for thumb in left[-MOST_WAITING:]:
            state.add_thumb(thumb)
        state.wake(COMPLAINTS, now_ms + RETRY_MS)
        return sent

    def quarantined(self, hit: Hit, by: str, now_ms: int) -> Outgoing:
        """The event that tells of an entry in quarantine."""
        tenant, request_id = tenant_of(hit.name)
        event = Event(
            event=QUARANTINED,
            source="job",
            happened_ms=now_ms,
            attributes={
                "tenant": tenant,
                "request_id": request_id,
                "category": hit.category,
                "key": hit.digest,
                "by": by,
            },
        )
        return Outgoing(topic=self._topic, key=hit.digest.encode(), value=self._codec.encode(event))

    def _apply(self, thumb: Thumb, now_ms: int) -> list[Outgoing] | None:
        """The events of a thumb that taught; None while Redis is away."""
        try:
            name = thumb.name
            found = self._reuse.praised(name) if thumb.up else self._reuse.complained(name, thumb.source)
        except Exception:
            logger.exception("a thumb teaches nothing, on a defect")
            return []
        if found is None:
            return None
        self._metrics.reuse_thumbs.labels(found.outcome).inc()
        if found.outcome is not Outcome.QUARANTINED or found.hit is None:
            return []
        return [self.quarantined(found.hit, thumb.source, now_ms)]
