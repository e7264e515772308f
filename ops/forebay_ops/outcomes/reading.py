"""Reads outcomes from their topics, each once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError, RecordError
from forebay_schemas.records import Audit, Feedback, Record
from forebay_schemas.registry import codec_for
from forebay_schemas.validation import check_tenant, validate_feedback

from ..topic_log import values_since

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of a period.

    Attributes:
        audits: one for each request, reason and tier that it is about, oldest first.
        feedback: of each voice on a request the latest, oldest first.
    """

    audits: list[Audit]
    feedback: list[Feedback]


def read_outcomes(config: Config, since_ms: int) -> Outcomes:
    """Audits and feedback from a time on, in milliseconds since the epoch.

    What is no record of theirs is passed over: the audit topic holds replies too.

    Raises:
        BrokerUnavailable: the brokers do not answer, or a topic does not exist.
    """
    topics = config.kafka.topics
    audits = {
        (audit.tenant, audit.request_id, audit.reason, audit.tier): audit  # one request may leave several tiers
        for audit in _records(config, topics.audit, since_ms, Audit)
    }
    feedback: dict[tuple[str, str, str, str | None], Feedback] = {}
    for topic, owner in {topics.feedback: None, **config.feedback_topics}.items():
        for given in _records(config, topic, since_ms, Feedback):
            try:
                validate_feedback(given)
                check_tenant(given.tenant, topic, owner)
            except ForebayError:
                continue
            voice = (given.tenant, given.request_id, given.source, given.user)
            before = feedback.get(voice)
            if before is None or before.given_ms <= given.given_ms:
                feedback[voice] = given
    return Outcomes(
        sorted(audits.values(), key=lambda audit: audit.audited_ms),
        sorted(feedback.values(), key=lambda given: given.given_ms),
    )


def _records(config: Config, topic: str, since_ms: int, kind: type[R]) -> Iterator[R]:
    codec = codec_for(config)
    for value in values_since(config, [topic], since_ms):
        try:
            yield codec.decode(value, kind)
        except RecordError:
            continue
