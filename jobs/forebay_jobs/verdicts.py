"""The large tier is to say whether two answers agree."""

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config

from .judging.model import verdict_request
from .messages import Arrival
from .own_requests import own_arrival
from .reuse.lesson import Lesson


def verdict_arrival(lesson: Lesson, bucket: str, config: Config, codec: Codec, now_ms: int) -> Arrival | None:
    """The request for a verdict on a lesson, see ``verdict_on``."""
    return verdict_on(
        lesson.digest,
        lesson.tenant,
        (lesson.question, lesson.known_text, lesson.text),
        bucket=bucket,
        config=config,
        codec=codec,
        now_ms=now_ms,
    )


def verdict_on(
    name: str, tenant: str, texts: tuple[str, str, str], *, bucket: str, config: Config, codec: Codec, now_ms: int
) -> Arrival | None:
    """The request for a verdict as it comes to the desk; None where the answers are too long for one.

    Args:
        name: of the dispute, among those of all tenants.
        texts: the question and the two answers.
        bucket: of the desk that leads it.
    """
    question, one, other = texts
    request = verdict_request(question, one, other, config, request_id=f"judge-{name}", tenant=tenant, now_ms=now_ms)
    return request and own_arrival(request, f"judge/{now_ms}", bucket, config, codec)
