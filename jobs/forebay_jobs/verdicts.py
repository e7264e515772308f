"""The job as an asker: the large tier is to say whether two answers agree."""

from forebay_schemas.canonical import digests
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Lane

from .judging.model import CATEGORY, verdict_request
from .messages import Arrival, Asker
from .reuse.lesson import Lesson


def verdict_arrival(lesson: Lesson, bucket: str, config: Config, codec: Codec, now_ms: int) -> Arrival | None:
    """The request for a verdict, as it comes to the desk; None where the answers are too long for one.

    Its reply goes to the audit topic, where it is counted and shown to nobody.

    Args:
        bucket: of the desk that leads it.
    """
    request_id = f"judge-{lesson.digest}"
    request = verdict_request(
        lesson.question,
        lesson.known_text,
        lesson.text,
        config,
        request_id=request_id,
        tenant=lesson.tenant,
        now_ms=now_ms,
    )
    if request is None:
        return None
    keys = digests(request)
    asker = Asker(
        request_id=request_id,
        tenant=lesson.tenant,
        category=CATEGORY,
        lane=Lane.BATCH,
        created_ms=now_ms,
        accepted_ms=now_ms,
        reply_topic=config.kafka.topics.audit,
        reply_key=request_id,
        min_tier=request.min_tier,
        origin=f"judge/{now_ms}",
    )
    return Arrival(
        asker=asker,
        request=codec.encode(request),
        digest=keys.exact,
        bucket=bucket,
        joinable=False,
        bypass=True,
        prefix=keys.prefix,
    )
