"""Feedback in the ledger: every verdict is a row, and it is the reader's to let the latest of a user count."""

from typing import Any

import pyarrow as pa
from forebay_schemas.config import Config
from forebay_schemas.metrics import LedgerMetrics
from forebay_schemas.records import Feedback
from forebay_schemas.validation import check_tenant, validate_feedback

from .tables import Entry

SCHEMA = pa.schema(
    [
        ("given_at", pa.timestamp("ms")),
        *((name, pa.string()) for name in ("request_id", "tenant", "verdict", "source", "user", "reason")),
        ("refined_by", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""As ``columns.SCHEMA`` for replies; most have the name and the meaning of their field of ``records.Feedback``."""


class FeedbackTable:
    """See ``tables.Table``."""

    name = "feedback"
    record = Feedback
    schema = SCHEMA

    def __init__(self, config: Config, metrics: LedgerMetrics) -> None:
        self._owners = config.feedback_topics
        self._metrics = metrics

    def check(self, record: Feedback, topic: str) -> None:
        validate_feedback(record)
        check_tenant(record.tenant, topic, self._owners.get(topic))

    def row(self, entry: Entry) -> dict[str, Any]:
        feedback: Feedback = entry.record
        self._metrics.feedback.labels(feedback.verdict, feedback.source).inc()
        return {
            "given_at": feedback.given_ms,
            "request_id": feedback.request_id,
            "tenant": feedback.tenant,
            "verdict": feedback.verdict.value,
            "source": feedback.source.value,
            "user": feedback.user,
            "reason": feedback.reason,
            "refined_by": feedback.refined_by,
            "topic": entry.topic,
            "partition": entry.partition,
            "offset": entry.offset,
        }
